"""The known models, for whoever lists or completes their names without loading what runs them."""

from segdex_backends.models.catalog import CATALOG, CatalogEntry, Role


def known_models() -> tuple[CatalogEntry, ...]:
    """Return the models of the catalog."""
    return CATALOG


def model_names(role: Role) -> list[str]:
    """Return the names of the models with a role."""
    return [entry.name for entry in CATALOG if entry.role == role]
