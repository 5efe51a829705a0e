"""Deploys an API Gateway for the functions that have routes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

STAGE = "local"
PROXY = "{proxy+}"

# For each path, by its parts: the function of each method.
Routes = dict[tuple[str, ...], dict[str, str]]


def routes_of(functions: dict[str, Any]) -> Routes:
    """The function of every route. API Gateway never falls back to a shorter path, so every subtree gets the proxy."""
    routes: Routes = {}
    for short, function in functions.items():
        for route in function.get("routes", []):
            method, path = route.split(" ")
            routes.setdefault(tuple(path.strip("/").split("/")), {})[method] = short
    rest = routes.get((PROXY,), {}).get("ANY")
    if rest is None:
        raise SystemExit("the topology has no function with the route ANY /{proxy+}, for all other routes")
    for parts in [path[:depth] for path in routes for depth in range(1, len(path) + 1)]:
        if parts[-1] != PROXY:
            routes.setdefault(parts, {}).setdefault("ANY", rest)
            routes.setdefault((*parts, PROXY), {}).setdefault("ANY", rest)
    return routes


def deploy(client: Any, name: str, functions: dict[str, Any], invocation: Callable[[str], str]) -> str:
    """Creates the API with a name, unless it exists with the same routes. Returns its id."""
    routes = routes_of(functions)
    said = json.dumps([["/".join(parts), methods] for parts, methods in sorted(routes.items())])
    for api in apis_of(client, name):
        # An API without a stage is incomplete.
        if api.get("description") == said and client.get_stages(restApiId=api["id"])["item"]:
            return api["id"]
        client.delete_rest_api(restApiId=api["id"])
    # LocalStack takes the id from this tag, so the address stays the same in every deployment.
    api = client.create_rest_api(name=name, description=said, tags={"_custom_id_": name})["id"]
    made = {(): client.get_resources(restApiId=api)["items"][0]["id"]}
    for parts, methods in routes.items():
        for depth in range(1, len(parts) + 1):
            if parts[:depth] not in made:
                parent, part = made[parts[: depth - 1]], parts[depth - 1]
                made[parts[:depth]] = client.create_resource(restApiId=api, parentId=parent, pathPart=part)["id"]
        for method, short in methods.items():
            where = {"restApiId": api, "resourceId": made[parts], "httpMethod": method}
            client.put_method(**where, authorizationType="NONE")
            uri = invocation(short)
            client.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    client.create_deployment(restApiId=api, stageName=STAGE)
    return api


def apis_of(client: Any, name: str) -> list[dict[str, Any]]:
    return [api for api in client.get_rest_apis(limit=500)["items"] if api["name"] == name]
