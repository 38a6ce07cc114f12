"""An issuer of OpenID Connect over real HTTP: discovery, keys, and tokens for clients that know their secret (RFC 6749, 4.4)."""

import base64
import http.server
import json
import threading
import time
import urllib.parse

from jwcrypto import jwk, jwt

AUDIENCE = "weir-recipients"
SCOPE = "shares.read"


class Issuer:
    """Serves on a port of its own until it is stopped; `clients` maps ids to secrets."""

    def __init__(self, lifetime_seconds=3600):
        self.clients = {}
        self.lifetime_seconds = lifetime_seconds
        self.issued = []
        self.key = jwk.JWK.generate(kty="EC", crv="P-256", kid="k1", use="sig", alg="ES256")
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.get(self)

            def do_POST(self):
                issuer.post(self)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tenant"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def settings(self):
        """The section of the configuration that believes this issuer."""
        return f"""
[identity]
allow_http_loopback = true

[[identity.issuer]]
url = "{self.url}"
audiences = ["{AUDIENCE}"]
scope = "{SCOPE}"
"""

    def get(self, request):
        documents = {
            "/tenant/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "token_endpoint": f"{self.url}/token",
            },
            "/tenant/keys": {"keys": [self.key.export_public(as_dict=True)]},
        }
        document = documents.get(request.path)
        self.answer(request, 200 if document else 404, document or {})

    def post(self, request):
        body = request.rfile.read(int(request.headers["content-length"])).decode()
        form = dict(urllib.parse.parse_qsl(body))
        known = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
        client, _, secret = known.partition(":")
        if request.path != "/tenant/token" or self.clients.get(client) != secret or not secret:
            self.answer(request, 401, {"error": "invalid_client"})
        elif form != {"grant_type": "client_credentials", "scope": SCOPE}:
            self.answer(request, 400, {"error": "invalid_request"})
        else:
            self.issued.append(client)
            answer = {"access_token": self.token(client), "token_type": "Bearer", "expires_in": self.lifetime_seconds}
            self.answer(request, 200, answer)

    def token(self, client, **claims):
        now = int(time.time())
        own = {"iss": self.url, "aud": AUDIENCE, "sub": f"service-{client}", "azp": client, "iat": now, "exp": now + self.lifetime_seconds}
        token = jwt.JWT(header={"alg": "ES256", "typ": "at+jwt", "kid": "k1"}, claims={**own, **claims})
        token.make_signed_token(self.key)
        return token.serialize()

    @staticmethod
    def answer(request, status, document):
        body = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
