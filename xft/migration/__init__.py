"""Read configs of other tools, and write configs of xft with the same meaning."""

from xft.migration.importer import Imported, import_config

__all__ = ["Imported", "import_config"]
