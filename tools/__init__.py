"""Tools around the protocol that are not part of the product: made from its declarations, used on their own."""
