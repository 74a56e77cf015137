"""HTTP connections that are kept between requests: one pool in each process, shared by its threads.

A forked child makes a pool of its own. It never uses the sockets of its parent, nor the locks around them, which
another thread of the parent may hold at the fork. The library, urllib3, is imported with the first request. Proxies
come from the environment and are looked up for each request, certificates from where OpenSSL looks for them.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib3 import PoolManager

PER_HOST = 16  # idle connections that are kept to one host: as many as there are threads that ask

_pools: dict[tuple[int, str, str], PoolManager] = {}  # (process, scheme, proxy) -> its connections


def connections(url: str) -> PoolManager:
    """Return this process's pool for an http(s) URL."""
    parts = urlsplit(url)
    proxy = _proxy_of(parts.scheme, parts.netloc.rpartition("@")[2])
    key = (os.getpid(), parts.scheme, proxy)
    return _pools.get(key) or _pools.setdefault(key, _make(parts.scheme, proxy))


@lru_cache(maxsize=1024)
def _proxy_of(scheme: str, host: str) -> str:
    """Return the proxy that the environment names for a host, "" for none."""
    from urllib.request import getproxies, proxy_bypass

    proxy = getproxies().get(scheme, "")
    if not proxy or proxy_bypass(host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


@lru_cache(maxsize=1)
def _pool_classes() -> dict[str, Any]:
    """Return urllib3's pools by scheme, whose connections acknowledge the head of an answer at once.

    Many servers send head and body apart and hold the body back until the head is acknowledged (Nagle's algorithm). On
    a kept connection the kernel delays that by 40 ms.
    """
    import socket

    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    quick = getattr(socket, "TCP_QUICKACK", None)  # Linux has it

    def prompt(kind: Any) -> Any:
        def getresponse(self: Any) -> Any:
            if quick is not None and isinstance(self.sock, socket.socket):
                self.sock.setsockopt(socket.IPPROTO_TCP, quick, 1)
            return kind.getresponse(self)

        return type(kind.__name__, (kind,), {"getresponse": getresponse})

    pools = {"http": (HTTPConnectionPool, HTTPConnection), "https": (HTTPSConnectionPool, HTTPSConnection)}
    return {name: type(pool.__name__, (pool,), {"ConnectionCls": prompt(kind)}) for name, (pool, kind) in pools.items()}


def _make(scheme: str, proxy: str) -> PoolManager:
    import urllib3
    from urllib3.util import parse_url

    context = None
    if scheme == "https":
        import ssl

        context = ssl.create_default_context()
    if not proxy:
        pool = urllib3.PoolManager(maxsize=PER_HOST, ssl_context=context)
    else:
        user = parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
        pool = urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=PER_HOST, ssl_context=context)
    pool.pool_classes_by_scheme = _pool_classes()
    return pool
