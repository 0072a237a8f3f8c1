"""The command line: runs, sweeps and the verbs (``resume``, ``report``, ``sync``, ``save``)."""
