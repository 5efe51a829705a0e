"""Brings a deployment of the topology about, through AWS's own interfaces; and takes it away again."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tasker_localstack.topology import fill

ACCOUNT = "000000000000"
REGION = "us-east-1"
BUCKET = "tasker-packages"
STAGE = "local"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/tasker"
ROOT = Path(__file__).resolve().parents[3]
# What is said of workers here, so that nobody takes it for more.
NOTE = "workers: the files of this checkout, started by their entry points; no image was built"


@dataclasses.dataclass(frozen=True)
class Database:
    """How functions reach the database; its login is in the secret."""

    address: str
    authority: str
    user: str
    password: str


class Deployment:
    """A deployment under a prefix, in the LocalStack of an endpoint."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        self.endpoint = endpoint
        self.prefix = prefix

    def client(self, service: str) -> Any:
        config = Config(retries={"max_attempts": 2}, read_timeout=60, proxies={}, max_pool_connections=20)
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=REGION, config=config,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def name(self, short: str) -> str:
        return f"{self.prefix}-{short}"

    @property
    def queue_url_prefix(self) -> str:
        return f"{self.endpoint}/{ACCOUNT}/{self.prefix}-"

    def arn(self, short: str) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name(short)}"

    def deploy(
        self, topology: dict[str, Any], programs: Path, database: Database, images: Path, schedule: bool
    ) -> dict[str, Any]:
        """Everything that is missing is made, what is there is brought up to date. Answers where things are."""
        queues = queues_of(topology)
        words = {
            "database_url": database.address,
            "database_ca_file": database.authority,
            "queue_url_prefix": self.queue_url_prefix,
            "prefix": self.prefix,
            "pools": ",".join(topology["pools"]),
            "environment": "local",
        }
        self._role()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: self._queue(*item), queues.items()))
            packages = dict(pool.map(lambda name: (name, self._package(programs / name)), topology["functions"]))
        self._secrets(topology, database, words)
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(self._function, n, f, queues, words, packages[n]) for n, f in topology["functions"].items()]
            made += [pool.submit(self._worker, p, topology["worker"], programs, images, words) for p in topology["pools"]]
            for future in made:
                future.result()
        # The schema before anybody who needs it.
        self._migrate()
        with ThreadPoolExecutor(8) as pool:
            sources = [pool.submit(self._source, n, f["reads"]) for n, f in topology["functions"].items() if "reads" in f]
            worker = topology["worker"]
            for p in topology["pools"]:
                reads = {"queue": f"worker-{p}", **{k: worker[k] for k in ("batch_size", "maximum_concurrency")}}
                sources.append(pool.submit(self._source, f"worker-{p}", reads))
            api = pool.submit(self._gateway, topology["functions"])
            for future in sources:
                future.result()
        if schedule:
            for name, function in topology["functions"].items():
                if "schedule" in function:
                    self._schedule(name, function["schedule"])
        return {
            "prefix": self.prefix,
            "endpoint": self.endpoint,
            "api": api.result(),
            "queue_url_prefix": self.queue_url_prefix,
            "functions": [self.name(n) for n in topology["functions"]] + [self.name(f"worker-{p}") for p in topology["pools"]],
            "database_secret": fill(topology["secrets"]["database"], words),
            "note": NOTE,
        }

    def remove(self) -> None:
        """Takes everything of the prefix away; what is not there is no fault."""
        functions, sqs, gateway = self.client("lambda"), self.client("sqs"), self.client("apigateway")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            if mapping["FunctionArn"].rsplit(":", 1)[-1].startswith(f"{self.prefix}-"):
                _quietly(functions.delete_event_source_mapping, UUID=mapping["UUID"])
        events = self.client("events")
        for rule in events.list_rules(NamePrefix=f"{self.prefix}-")["Rules"]:
            ids = [target["Id"] for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]]
            _quietly(events.remove_targets, Rule=rule["Name"], Ids=ids)
            _quietly(events.delete_rule, Name=rule["Name"])
        for page in functions.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                if function["FunctionName"].startswith(f"{self.prefix}-"):
                    _quietly(functions.delete_function, FunctionName=function["FunctionName"])
        for api in gateway.get_rest_apis(limit=500)["items"]:
            if api["name"] == self.prefix:
                _quietly(gateway.delete_rest_api, restApiId=api["id"])
        for url in sqs.list_queues(QueueNamePrefix=f"{self.prefix}-").get("QueueUrls", []):
            _quietly(sqs.delete_queue, QueueUrl=url)

    def _role(self) -> None:
        policy = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}  # fmt: skip
        _unless_there(self.client("iam").create_role, RoleName="tasker", AssumeRolePolicyDocument=json.dumps(policy))

    def _queue(self, short: str, queue: dict[str, Any]) -> None:
        sqs = self.client("sqs")
        letters = {"MessageRetentionPeriod": str(queue["dead_letter_retention_seconds"])}
        sqs.create_queue(QueueName=f"{self.name(short)}-dlq", Attributes=letters)
        redrive = {"deadLetterTargetArn": f"{self.arn(short)}-dlq", "maxReceiveCount": str(queue["max_receive_count"])}
        attributes = {
            "VisibilityTimeout": str(queue["visibility_seconds"]),
            "MessageRetentionPeriod": str(queue["retention_seconds"]),
            "RedrivePolicy": json.dumps(redrive),
        }
        url = _unless_there(sqs.create_queue, QueueName=self.name(short), Attributes=attributes)
        if url is None:
            sqs.set_queue_attributes(QueueUrl=f"{self.queue_url_prefix}{short}", Attributes=attributes)

    def _secrets(self, topology: dict[str, Any], database: Database, words: dict[str, str]) -> None:
        client = self.client("secretsmanager")
        login = json.dumps({"username": database.user, "password": database.password})
        name = fill(topology["secrets"]["database"], words)
        if _unless_there(client.create_secret, Name=name, SecretString=login) is None:
            client.put_secret_value(SecretId=name, SecretString=login)
        # Once there are keys they stay: messages on their way were signed by them.
        key = {"id": "local-1", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
        signing = fill(topology["secrets"]["signing"], words)
        _unless_there(client.create_secret, Name=signing, SecretString=json.dumps({"keys": [key]}))

    def _package(self, program: Path) -> str:
        """Uploads a program as `bootstrap` in a zip, once for each content. Answers its key."""
        if not program.exists():
            raise SystemExit(f"{program} is missing: build the functions first (scripts/localstack up does)")
        s3 = self.client("s3")
        stamp = program.stat()
        mark = hashlib.sha256(f"{program.resolve()} {stamp.st_mtime_ns} {stamp.st_size}".encode()).hexdigest()
        key = f"{program.name}/{mark}.zip"
        try:
            s3.head_object(Bucket=BUCKET, Key=key)
        except ClientError:
            _unless_there(s3.create_bucket, Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key=key, Body=package(program))
        return key

    def _function(
        self, short: str, function: dict[str, Any], queues: dict[str, Any], words: dict[str, str], key: str
    ) -> None:
        reads = queues.get(function.get("reads", {}).get("queue"), {})
        words = {**words, "max_receive_count": str(reads.get("max_receive_count", ""))}
        settings = self._settings(short, function, words)
        client = self.client("lambda")
        made = _unless_there(
            client.create_function, Runtime="provided.al2023", Handler="bootstrap",
            Code={"S3Bucket": BUCKET, "S3Key": key}, **settings,
        )  # fmt: skip
        if made is None:
            client.update_function_code(FunctionName=settings["FunctionName"], S3Bucket=BUCKET, S3Key=key)
            self._await(settings["FunctionName"])
            client.update_function_configuration(**settings)
        self._await(settings["FunctionName"])

    def _worker(
        self, pool: str, worker: dict[str, Any], programs: Path, images: Path, words: dict[str, str]
    ) -> None:
        uri = f"tasker-worker-{pool}:local"
        settings = self._settings(f"worker-{pool}", worker, {**words, "pool": pool})
        client = self.client("lambda")
        made = _unless_there(client.create_function, PackageType="Image", Code={"ImageUri": uri}, **settings)
        if made is None:
            client.update_function_configuration(**settings)
        self._await(settings["FunctionName"])

    def _settings(self, short: str, function: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
        environment = {name: fill(text, words) for name, text in function["environment"].items()}
        return {
            "FunctionName": self.name(short),
            "Role": ROLE,
            "MemorySize": function["memory_mb"],
            "Timeout": function["timeout_seconds"],
            "Environment": {"Variables": {name: value for name, value in environment.items() if value}},
        }

    def _await(self, name: str) -> None:
        self.client("lambda").get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )
        self.client("lambda").get_waiter("function_updated_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )

    def _migrate(self) -> None:
        answer = self.client("lambda").invoke(FunctionName=self.name("db-migrate"), Payload=b"{}")
        payload = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise SystemExit(f"the database could not be migrated: {payload}; the log of {self.name('db-migrate')} may say more")

    def _source(self, short: str, reads: dict[str, Any]) -> None:
        client = self.client("lambda")
        name, arn = self.name(short), self.arn(reads["queue"])
        settings = {
            "BatchSize": reads["batch_size"],
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": reads["maximum_concurrency"]},
        }
        there = client.list_event_source_mappings(EventSourceArn=arn, FunctionName=name)["EventSourceMappings"]
        if there:
            client.update_event_source_mapping(UUID=there[0]["UUID"], **settings)
        else:
            client.create_event_source_mapping(EventSourceArn=arn, FunctionName=name, **settings)

    def _schedule(self, short: str, expression: str) -> None:
        events = self.client("events")
        name = self.name(f"{short}-schedule")
        events.put_rule(Name=name, ScheduleExpression=expression)
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name(short)}"
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])

    def _gateway(self, functions: dict[str, Any]) -> str:
        gateway = self.client("apigateway")
        there = [api for api in gateway.get_rest_apis(limit=500)["items"] if api["name"] == self.prefix]
        if there:
            return self._api_url(there[0]["id"])
        api = gateway.create_rest_api(name=self.prefix)["id"]
        root = gateway.get_resources(restApiId=api)["items"][0]["id"]
        made: dict[tuple[str, ...], str] = {(): root}
        for short, function in functions.items():
            for route in function.get("routes", []):
                method, path = route.split(" ")
                parts = tuple(path.strip("/").split("/"))
                for depth in range(1, len(parts) + 1):
                    if parts[:depth] not in made:
                        parent, part = made[parts[: depth - 1]], parts[depth - 1]
                        resource = gateway.create_resource(restApiId=api, parentId=parent, pathPart=part)
                        made[parts[:depth]] = resource["id"]
                self._route(gateway, api, made[parts], method, short)
        # A path below one that another function has falls to nobody, unless it is said.
        rest = next(s for s, f in functions.items() if "ANY /{proxy+}" in f.get("routes", []))
        taken = [p for p in made if p and p != ("{proxy+}",)]
        for parts in taken:
            resource = gateway.create_resource(restApiId=api, parentId=made[parts], pathPart="{proxy+}")["id"]
            self._route(gateway, api, resource, "ANY", rest)
            if not any(tuple(r.split(" ")[1].strip("/").split("/")) == parts and r.startswith("ANY") for f in functions.values() for r in f.get("routes", [])):
                self._route(gateway, api, made[parts], "ANY", rest)
        gateway.create_deployment(restApiId=api, stageName=STAGE)
        return self._api_url(api)

    def _route(self, gateway: Any, api: str, resource: str, method: str, short: str) -> None:
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name(short)}"
        gateway.put_method(restApiId=api, resourceId=resource, httpMethod=method, authorizationType="NONE")
        gateway.put_integration(
            restApiId=api, resourceId=resource, httpMethod=method, type="AWS_PROXY", integrationHttpMethod="POST",
            uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations",
        )  # fmt: skip

    def _api_url(self, api: str) -> str:
        return f"{self.endpoint}/_aws/execute-api/{api}/{STAGE}"


def queues_of(topology: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every queue by its short name, those of the pools among them."""
    keys = ("visibility_seconds", "max_receive_count", "retention_seconds", "dead_letter_retention_seconds")
    worker = {key: topology["worker"][key] for key in keys}
    return {**topology["queues"], **{f"worker-{pool}": worker for pool in topology["pools"]}}


def package(program: Path) -> bytes:
    """A zip that holds the program alone; the same program gives the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bootstrap"
        shutil.copyfile(program, copy)
        if shutil.which("strip"):
            subprocess.run(["strip", "-s", str(copy)], check=True)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            entry = zipfile.ZipInfo("bootstrap", (2000, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100755 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, copy.read_bytes())
        return file.getvalue()


def write_images(file: Path, programs: Path, python: str) -> None:
    """What stands here for the images of the workers: the same programs, started by the same entry point."""
    worker = str(programs / "tasker-worker")
    environment = {"PYTHONPATH": str(ROOT / "workers/python/src")}
    handlers = str(ROOT / "workers/python/examples/order_handlers.py")
    images = {
        "tasker-worker-rust:local": {"command": [worker, "--", str(programs / "tasker-example-rust")]},
        "tasker-worker-python:local": {"command": [worker, "--", python, handlers], "environment": environment},
    }
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(images, indent=1), encoding="utf-8")
    os.replace(beside, file)


def _unless_there(make: Any, **arguments: Any) -> Any:
    """Makes something; none when it is there already."""
    try:
        return make(**arguments)
    except ClientError as error:
        there = ("EntityAlreadyExists", "ResourceConflictException", "ResourceExistsException", "QueueNameExists",
                 "QueueAlreadyExists", "BucketAlreadyOwnedByYou", "BucketAlreadyExists")  # fmt: skip
        if error.response["Error"]["Code"] in there:
            return None
        raise


def _quietly(call: Any, **arguments: Any) -> None:
    """For what may be gone already."""
    try:
        call(**arguments)
    except ClientError:
        return
