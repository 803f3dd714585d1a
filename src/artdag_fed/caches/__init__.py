"""The shelf of caches: each keeps what `artdag_fed.cache.OriginCache` asks for, and `testing.check_cache` proves it."""
