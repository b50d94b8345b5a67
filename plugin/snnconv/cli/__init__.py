"""The command line: ``snnconv demo``, ``convert``, ``eval``, ``compare``, ``profile``, ``report``, ``recommend``, and so on."""
