"""From raw videos and stills to training shards: sources, extraction, filters, packing, report."""
