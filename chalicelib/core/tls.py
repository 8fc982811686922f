"""The roots that servers are held against."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

#: Of the deployment package, a file for each (infra/roots.py); of a checkout there is none.
FOLDER = os.path.join(os.path.dirname(__file__), "..", "..", "roots")


@lru_cache(maxsize=1)
def trusting() -> ssl.SSLContext:
    """A client's context. Once for a container: to make one takes longer than many requests.

    It trusts what SSL_CERT_FILE or SSL_CERT_DIR names; where neither is set, the package's roots,
    of which only those are read that a server's certificate names, or else the system's. And what
    AWS_CA_BUNDLE names beside them.
    """
    is_told = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    packaged = FOLDER if not is_told and os.path.isdir(FOLDER) else None
    context = ssl.create_default_context(capath=packaged)
    if more := os.environ.get("AWS_CA_BUNDLE"):
        context.load_verify_locations(more)
    context.set_alpn_protocols(("http/1.1",))
    return context
