"""Ready-made roads between instances, each a module: `folder` for a shared directory, `http` for a network.

Rules: what a road needs is imported with its module, so `import artdag_fed` stays without a network; a road carries
records and believes none of them; any function `fetch(peer) -> records` is one just as well.

>>> from artdag_fed.transports import http
>>> fetch = http.fetcher({"alice": "https://alice.example/results"})
>>> fetch
<fetch over HTTP from 'alice', deadline 300 s>
"""
