"""The command line: `snnconv convert`, `evaluate`, `profile`, `audit`, `recommend`, `doctor` ..."""
