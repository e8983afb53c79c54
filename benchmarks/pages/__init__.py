"""What is made of result files: ``python -m benchmarks report`` and ``compare``.

``resultfile`` reads them, ``statistics`` makes medians and spreads of their rounds, ``page`` writes HTML with
the tables of ``tables`` and the plots of ``plots``, and ``comparison`` sets two files side by side. Nothing
here measures.
"""
