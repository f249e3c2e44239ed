"""The calculator: what `footprint predict` answers, part by part, for a page whose fields may change at any time.

It runs in a browser, without NumPy, PyYAML or a network. A page's state is a command line: what is wrong with it, the
command line says.
"""
