"""The command line: ``snnconv demo``, ``convert``, ``eval``, ``compare``, ``report``, ``recommend``, and so on."""
