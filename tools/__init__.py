"""What is made from the declarations of the protocol and used without the product."""
