"""Group J of the abuse cases: what passes for one of our access tokens, and what does not."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from server.access.access_token import own_rules, principal_of
from server.access.jwt_verifier import TokenRefused, TokenRules, parse_token, verify_token
from server.access.signing_keys import SigningKeys
from server.settings import Settings
from tests.access.forge import OWN_HEADER, b64, good_claims, own, sign
from tests.conftest import JWT_SECRET, AppFactory, ProjectMaker

SETTINGS = Settings(jwt_secret=JWT_SECRET)
RULES = own_rules(SETTINGS)
KEYS = SigningKeys(SETTINGS).keys
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})


def accepted(token: str, rules: TokenRules = RULES) -> bool:
    """Return whether the verifier lets ``token`` through; anything but TokenRefused is a defect."""
    try:
        principal_of(verify_token(parse_token(token), KEYS, rules))
    except TokenRefused:
        return False
    return True


def refused_tokens() -> Iterator[tuple[str, str]]:
    """Yield a pair of case and token for every way of being wrong."""
    now = int(time.time())
    good = good_claims()
    for alg in ("none", "None", "nOnE", ""):
        yield f"alg {alg!r}", f"{b64(json.dumps({**OWN_HEADER, 'alg': alg}).encode())}.{b64(b'{}')}."
        yield f"alg {alg!r} signed", sign({**OWN_HEADER, "alg": alg}, good)
    public_pem = RSA.as_pem(private=False)
    for name, secret in (
        ("PEM", public_pem),
        ("PEM without newline", public_pem.strip()),
        ("DER", RSA.as_der(private=False)),
        ("JWK", json.dumps(RSA.as_dict(private=False)).encode()),
    ):
        yield f"{name} as secret", sign(OWN_HEADER, good, secret=secret)
    yield "RS256", jwt.encode({"alg": "RS256", "typ": "at+jwt"}, good, RSA, algorithms=["RS256"])
    yield "HS512", sign({**OWN_HEADER, "alg": "HS512"}, good)
    bad_alg: Any
    for bad_alg in (["HS256"], 1, None, True, {}):
        yield f"alg {bad_alg!r}", sign({**OWN_HEADER, "alg": bad_alg}, good)
    for header in (
        b'"alg"',
        b"[]",
        b"1",
        b"{",
        b"[" * 500,
        b"\xff",
        b"{" + b'"a":' * 400,
        b'{"alg":"HS256","alg":"HS256","typ":"at+jwt"}',
        b'{"typ":"at+jwt"}',
    ):
        yield f"header {header[:20]!r}", sign(header, good)
    kid: Any
    for kid in ("../../dev/null", "' OR 1=1--", "\0", "k" * 10_000, 5, None, [], "other-issuer"):
        if kid is not None:
            yield f"kid {str(kid)[:20]!r}", own({"kid": kid})
    for name in ("jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "foo"):
        yield f"header {name}", own({name: ["x"] if name in ("crit", "x5c") else "http://127.0.0.1:1/"})
    for parts in (2, 4, 5):
        yield f"{parts} parts", ".".join([b64(b'{"alg":"PBES2-HS256+A128KW","p2c":2147483648,"zip":"DEF"}')] * parts)
    # No clock in a case's name: every worker of a parallel run must find the same names.
    yield "exp just over", own(exp=now - 31)
    yield "exp as text", own(exp=str(now + 60))
    exp: Any
    for exp in (0, -1, ..., "soon", True, None, [], {}, 10**4000):
        yield f"exp {str(exp)[:20]}", own(exp=exp)
    for literal in (b"NaN", b"Infinity", b"1e400", b"1" * 5000):
        raw = json.dumps(good).encode().replace(str(good["exp"]).encode(), literal)
        yield f"exp literal {literal[:8]!r}", sign(OWN_HEADER, raw)
    yield "lifetime", own(exp=now + 10 * 365 * 86400)
    yield "lifetime from a negative iat", own(iat=-5, exp=now + 60)
    for name in ("nbf", "iat"):
        yield f"{name} ahead", own({}, **{name: now + 3600})
        for value in ("x", True, [1]):
            yield f"{name} {value}", own({}, **{name: value})
    yield "iat missing", own(iat=...)
    aud: Any
    for aud in (
        "other",
        ...,
        [],
        {},
        "llm-observatory-api2",
        "llm-observatory-api/",
        ["other"],
        [["llm-observatory-api"]],
        "LLM-OBSERVATORY-API",
        None,
        7,
        ["llm-observatory-api", 7],
    ):
        yield f"aud {aud!r}", own(aud=aud)
    for iss in ("LLM-observatory", "llm-observatory/", ["llm-observatory"], ..., "", None, 1):
        yield f"iss {iss!r}", own(iss=iss)
    for typ in ("JWT", "id_token", "dpop+jwt", "application/jwt", "", 1, None, ["at+jwt"]):
        yield f"typ {typ!r}", own({"typ": typ})
    yield "typ missing", sign({"alg": "HS256"}, good)
    sub: Any
    for sub in (..., "", 5, "s" * 10_000, "a:b", "a\nb", "a b", None, [], "\u0430lice", "a\0"):
        yield f"sub {str(sub)[:10]!r}", own(sub=sub)
    jti: Any
    for jti in (..., "", 5, None, [], "a:b", "j" * 200):
        yield f"jti {str(jti)[:10]!r}", own(jti=jti)
    for role in (..., "root", "Admin", "", None, 1, ["viewer", "admin"], {"admin": True}):
        yield f"role {role!r}", own(role=role)
    for projects in (
        ...,
        None,
        "alpha",
        ["*"],
        ["alpha", "*"],
        [1],
        [None],
        ["Alpha"],
        ["\u0430lpha"],
        ["a b"],
        [f"p{number}" for number in range(500)],
        {"alpha": 1},
        [["alpha"]],
    ):
        yield f"projects {str(projects)[:20]}", own(projects=projects)
    yield "* beside others", own(role="admin", projects=["*", "alpha"])
    scope: Any
    for scope in (5, ["traces:read"], {}):
        yield f"scope {scope!r}", own(scope=scope)
    for client_id in (5, "", "a:b", ["x"]):
        yield f"client_id {client_id!r}", own(client_id=client_id)
    yield "duplicate claim", sign(OWN_HEADER, json.dumps(good).encode()[:-1] + b',"role":"admin"}')
    for payload in (b"[]", b"null", b"1", b'"x"', b"", b"{", b"[" * 5000, b"\xff\xfe", b"{}"):
        yield f"payload {payload[:10]!r}", sign(OWN_HEADER, payload)
    yield "other secret", sign(OWN_HEADER, good, secret=b"x" * 32)
    yield "empty secret", sign(OWN_HEADER, good, secret=b"")
    yield "no signature", own().rpartition(".")[0] + "."
    yield "long", own(sub="a", padding="x" * 9000)


REFUSED = list(refused_tokens())


@pytest.mark.parametrize("case", range(len(REFUSED)), ids=[case for case, _ in REFUSED])
def test_hostile_token_is_refused_without_another_exception(case: int) -> None:
    assert not accepted(REFUSED[case][1])


# Made when the test runs: a token made at collection would be older by then.
@pytest.mark.parametrize(
    "make",
    [
        lambda: own(),
        lambda: own({"typ": "application/at+jwt"}),
        lambda: own({"kid": KEYS[0].kid}),
        lambda: own(aud=["other", "llm-observatory-api"]),
        lambda: own(exp=int(time.time()) - 5),
        lambda: own(nbf=int(time.time()) + 20),
        lambda: own(iat=int(time.time()) + 20),
        lambda: own(role="admin", projects=["*"]),
        lambda: own(projects=["alpha", "alpha"]),
        lambda: own(projects=[]),
        lambda: own(client_id=...),
        lambda: own(scope=...),
    ],
    ids=["plain", "long type", "kid", "list with ours", "exp in leeway", "nbf in leeway",
         "iat in leeway", "admin of all", "doubles", "none", "no client", "no scope"],
)  # fmt: skip
def test_good_token_is_accepted(make: Callable[[], str]) -> None:
    assert accepted(make())


def test_leeway_is_the_same_for_all_times_and_ends_sharply() -> None:
    for leeway in (0, 60):
        rules = own_rules(Settings(jwt_secret=JWT_SECRET, jwt_leeway=leeway))
        now = int(time.time())
        assert not accepted(own(exp=now - leeway), rules)
        assert not accepted(own(nbf=now + leeway + 5), rules)
        assert not accepted(own(iat=now + leeway + 5), rules)


def test_token_scopes_narrow_the_role_and_never_widen_it() -> None:
    def scopes(**claims: Any) -> frozenset[str]:
        return principal_of(verify_token(parse_token(own(**claims)), KEYS, RULES)).scopes

    assert scopes(role="viewer", scope="traces:read traces:write keys:manage audit:read") == {"traces:read"}
    assert scopes(role="admin", scope="metrics:read") == {"metrics:read"}
    assert scopes(role="viewer", scope="") == frozenset()
    assert "content:read" not in scopes(role="billing", scope=...)
    assert scopes(role="billing", scope="content:read costs:read") == {"costs:read"}


def test_ten_thousand_mutations_never_pass_but_for_the_identity() -> None:
    randomness = random.Random(20261123)  # fixed: a failure can be repeated
    token = own({"kid": KEYS[0].kid})
    alphabet = "ABCXYZabcxyz0189-_.=+/ \n\x00é"
    for _ in range(10_000):
        characters = list(token)
        for _ in range(randomness.randint(1, 3)):
            place = randomness.randrange(len(characters))
            match randomness.randrange(4):
                case 0:
                    characters[place] = randomness.choice(alphabet)
                case 1:
                    characters.insert(place, randomness.choice(alphabet))
                case 2:
                    del characters[place]
                case _:
                    other = randomness.randrange(len(characters))
                    characters[place], characters[other] = characters[other], characters[place]
        mutated = "".join(characters)
        assert mutated == token or not accepted(mutated)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=400))
def test_arbitrary_header_and_payload_never_raise_anything_else(header: bytes, payload: bytes) -> None:
    assert not accepted(sign(header, payload))


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_arbitrary_text_never_raises_anything_else(text: str) -> None:
    assert not accepted(text)


def test_asymmetric_deployment_refuses_the_public_key_as_a_secret() -> None:
    rules = TokenRules(issuer="llm-observatory", audiences=("llm-observatory-api",), algorithms=("ES256",),
                       types=frozenset({"at+jwt"}))  # fmt: skip
    key = ECKey.generate_key("P-256", {"kid": "one"})
    good = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "one"}, good_claims(), key, algorithms=["ES256"])
    assert verify_token(parse_token(good), [key], rules)["sub"] == "alice"
    confused = sign({"alg": "HS256", "typ": "at+jwt", "kid": "one"}, good_claims(), secret=key.as_pem(private=False))
    with pytest.raises(TokenRefused):
        verify_token(parse_token(confused), [key], rules)
    with pytest.raises(TokenRefused):  # an oct key that got among the keys is of no use either
        verify_token(parse_token(own({"kid": "one"})), [OctKey.import_key(JWT_SECRET, {"kid": "one"})], rules)


async def test_all_refusals_have_one_body_and_a_challenge(start_app: AppFactory, project: ProjectMaker) -> None:
    await project("alpha")
    server = await start_app(rate_limit_failed_auth=100_000)
    bodies: set[str] = set()
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        assert (await http.get("/api/v1/projects", headers={"Authorization": f"Bearer {own()}"})).status_code == 200
        for case, token in REFUSED:
            answer = await http.get("/api/v1/projects", headers={"Authorization": f"Bearer {token}"})
            if answer.status_code in (400, 413) and len(token) > 8000:
                continue  # the head is too long to be read at all
            assert answer.status_code == 401, (case, answer.text)
            assert 'error="invalid_token"' in answer.headers["www-authenticate"], case
            body = answer.json()
            assert body.pop("request_id")
            bodies.add(json.dumps(body, sort_keys=True))
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["code"] == "invalid_token"


HEADERS = [
    ({}, 401),
    ({"Authorization": "Bearer"}, 401),
    ({"Authorization": "bearer  GOOD"}, 401),
    ({"Authorization": "bEaReR GOOD"}, 200),
    ({"Authorization": "Bearer GOOD,x"}, 401),
    ({"Authorization": "Basic GOOD"}, 401),
    ({"Authorization": "GOOD"}, 401),
    ({"X-API-Key": "GOOD"}, 401),
    ({"X-API-Key": "GOOD", "Authorization": "Bearer GOOD"}, 400),
    ({"Cookie": "access_token=GOOD"}, 401),
]


async def test_only_a_well_formed_header_carries_a_token(client: httpx.AsyncClient, project: ProjectMaker) -> None:
    await project("alpha")
    for headers, status in HEADERS:
        filled = {name: value.replace("GOOD", own()) for name, value in headers.items()}
        answer = await client.get("/api/v1/projects", headers=filled)
        assert answer.status_code == status, headers
        assert status != 401 or "www-authenticate" in answer.headers


async def test_token_in_the_address_or_twice_in_the_head_is_not_taken(
    client: httpx.AsyncClient, project: ProjectMaker
) -> None:
    await project("alpha")
    token = own()
    assert (await client.get(f"/api/v1/projects?access_token={token}")).status_code == 401
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {own()}")]
    assert (await client.get("/api/v1/projects", headers=twice)).status_code == 400


async def test_refusal_takes_no_database_connection(start_app: AppFactory, project: ProjectMaker) -> None:
    await project("alpha")
    server = await start_app(database_pool_size=1, acquire_timeout=20.0)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as http, server.services.reads.plain():
        await http.get("/live")
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(http.get("/api/v1/projects", headers={"Authorization": f"Bearer {own(exp=1)}"}) for _ in range(5))
        )
        assert time.perf_counter() - started < 10  # a connection would be waited for twice as long
    assert {answer.status_code for answer in answers} == {401}
