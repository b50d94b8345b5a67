"""The package inside other packages."""
