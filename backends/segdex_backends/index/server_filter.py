"""Conditions on segments, as a Qdrant server reads them."""

from qdrant_client import models

from segdex_core.records import SegmentFilter


def to_filter(where: SegmentFilter) -> models.Filter:
    """Return a filter as the client has it."""
    must: list[models.Condition] = [
        models.FieldCondition(key="tags", match=models.MatchValue(value=tag)) for tag in where.tags
    ]
    if where.image_ids:
        ids = [str(image_id) for image_id in where.image_ids]
        must.append(models.FieldCondition(key="image_id", match=models.MatchAny(any=ids)))
    if where.sources:
        must.append(models.FieldCondition(key="sources", match=models.MatchAny(any=list(where.sources))))
    if where.min_area_fraction is not None or where.max_area_fraction is not None:
        area = models.Range(gte=where.min_area_fraction, lte=where.max_area_fraction)
        must.append(models.FieldCondition(key="area_fraction", range=area))
    if where.min_depth is not None:
        must.append(models.FieldCondition(key="depth", range=models.Range(gte=where.min_depth)))
    if where.captured_from_s is not None or where.captured_until_s is not None:
        captured = models.Range(gte=where.captured_from_s, lt=where.captured_until_s)
        must.append(models.FieldCondition(key="captured_s", range=captured))
    return models.Filter(must=must)
