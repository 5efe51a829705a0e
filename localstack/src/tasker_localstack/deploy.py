"""Deploys the topology through AWS's APIs, and removes a deployment."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tasker_localstack import gateway, packages
from tasker_localstack.topology import fill

ACCOUNT = "000000000000"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/tasker"


@dataclasses.dataclass(frozen=True)
class Database:
    """How functions connect to the database. User and password go into the secret."""

    address: str
    authority: str
    user: str
    password: str


class Deployment:
    """A deployment with a prefix, in the LocalStack at an endpoint."""

    def __init__(self, endpoint: str, prefix: str, zips: bool = False) -> None:
        self.endpoint = endpoint
        self.prefix = prefix
        # Upload zips, as on AWS, instead of naming folders. This takes longer.
        self.zips = zips
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        # Creating a client is slow and not thread-safe; using one is thread-safe.
        with self._lock:
            if service not in self._clients:
                config = Config(retries={"max_attempts": 2}, read_timeout=60, proxies={}, max_pool_connections=20)
                self._clients[service] = boto3.client(
                    service, endpoint_url=self.endpoint, region_name=REGION, config=config,
                    aws_access_key_id="test", aws_secret_access_key="test",
                )  # fmt: skip
            return self._clients[service]

    def name(self, short: str) -> str:
        return f"{self.prefix}-{short}"

    @property
    def queue_url_prefix(self) -> str:
        return f"{self.endpoint}/{ACCOUNT}/{self.prefix}-"

    def arn(self, short: str) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name(short)}"

    def deploy(
        self, topology: dict[str, Any], programs: dict[str, Path], database: Database, schedule: bool
    ) -> dict[str, Any]:
        """Creates what is missing and updates what exists. Returns the names and addresses of the deployment.

        `programs` are the packages of the functions.
        """
        functions, pools, worker = topology["functions"], topology["pools"], topology["worker"]
        queues = queues_of(topology)
        words = {
            "database_url": database.address,
            "database_ca_file": database.authority,
            "queue_url_prefix": self.queue_url_prefix,
            "prefix": self.prefix,
            "pools": ",".join(pools),
            "environment": "local",
        }
        reads = {name: function["reads"] for name, function in functions.items() if "reads" in function}
        limits = {key: worker[key] for key in ("batch_size", "maximum_concurrency")}
        reads |= {f"worker-{p}": {"queue": f"worker-{p}", **limits} for p in pools}
        with ThreadPoolExecutor(8) as pool:
            api = pool.submit(self._gateway, functions)
            before = [pool.submit(self._queue, name, queue) for name, queue in queues.items()]
            before.append(pool.submit(self._secrets, topology, database, words))
            self._role()
            made = [pool.submit(self._function, n, f, programs[n], queues, words) for n, f in functions.items()]
            made += [pool.submit(self._worker, p, worker, words) for p in pools]
            _all(before + made)
            # The functions read their queues only after the migration.
            self._migrate()
            _all([pool.submit(self._source, name, source) for name, source in reads.items()])
        if schedule:
            for name, function in functions.items():
                if "schedule" in function:
                    self._schedule(name, function["schedule"])
        return {
            "prefix": self.prefix,
            "endpoint": self.endpoint,
            "api": api.result(),
            "queue_url_prefix": self.queue_url_prefix,
            "functions": [self.name(n) for n in functions] + [self.name(f"worker-{p}") for p in pools],
            "database_secret": fill(topology["secrets"]["database"], words),
        }

    def remove(self) -> None:
        """Removes everything with the prefix. It may be incomplete."""
        functions, sqs, apis = self.client("lambda"), self.client("sqs"), self.client("apigateway")
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
        for api in gateway.apis_of(apis, self.prefix):
            _quietly(apis.delete_rest_api, restApiId=api["id"])
        for url in sqs.list_queues(QueueNamePrefix=f"{self.prefix}-").get("QueueUrls", []):
            _quietly(sqs.delete_queue, QueueUrl=url)

    def _role(self) -> None:
        who = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = {"Version": "2012-10-17", "Statement": [who]}
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
        # Existing keys stay, because they signed messages that are still in queues.
        key = {"id": "local-1", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
        signing = fill(topology["secrets"]["signing"], words)
        _unless_there(client.create_secret, Name=signing, SecretString=json.dumps({"keys": [key]}))

    def _function(
        self, short: str, function: dict[str, Any], package: Path, queues: dict[str, Any], words: dict[str, str]
    ) -> None:
        reads = queues.get(function.get("reads", {}).get("queue"), {})
        words = {**words, "max_receive_count": str(reads.get("max_receive_count", ""))}
        settings = self._settings(short, function, words)
        code: dict[str, Any] = {"S3Bucket": packages.BUCKET, "S3Key": str(package)}
        if self.zips:
            code = {"ZipFile": packages.zipped(package)}
        client = self.client("lambda")
        made = _unless_there(
            client.create_function, Runtime="provided.al2023", Handler="bootstrap", Code=code, **settings
        )
        if made is None:
            client.update_function_code(FunctionName=settings["FunctionName"], **code)
            self._await(settings["FunctionName"])
            client.update_function_configuration(**settings)
        self._await(settings["FunctionName"])

    def _worker(self, pool: str, worker: dict[str, Any], words: dict[str, str]) -> None:
        uri = f"tasker-worker-{pool}:local"
        settings = self._settings(f"worker-{pool}", worker, {**words, "pool": pool})
        client = self.client("lambda")
        made = _unless_there(client.create_function, PackageType="Image", Code={"ImageUri": uri}, **settings)
        if made is None:
            client.update_function_configuration(**settings)
        self._await(settings["FunctionName"])

    def _settings(self, short: str, function: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
        words = {**words, "timeout_seconds": str(function["timeout_seconds"])}
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
            raise SystemExit(f"the database could not be migrated: {payload}; see the log of {self.name('db-migrate')}")

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
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": self._function_arn(short)}])

    def _gateway(self, functions: dict[str, Any]) -> str:
        api = gateway.deploy(self.client("apigateway"), self.prefix, functions, self._invocation)
        return f"{self.endpoint}/_aws/execute-api/{api}/{gateway.STAGE}"

    def _invocation(self, short: str) -> str:
        return f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{self._function_arn(short)}/invocations"

    def _function_arn(self, short: str) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name(short)}"


def queues_of(topology: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every queue by its short name, including those of the pools."""
    keys = ("visibility_seconds", "max_receive_count", "retention_seconds", "dead_letter_retention_seconds")
    worker = {key: topology["worker"][key] for key in keys}
    return {**topology["queues"], **{f"worker-{pool}": worker for pool in topology["pools"]}}


def _all(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


def _unless_there(make: Any, **arguments: Any) -> Any:
    """Creates something. None if it exists already."""
    try:
        return make(**arguments)
    except ClientError as error:
        there = ("EntityAlreadyExists", "ResourceConflictException", "ResourceExistsException", "QueueNameExists",
                 "QueueAlreadyExists", "BucketAlreadyOwnedByYou", "BucketAlreadyExists")  # fmt: skip
        if error.response["Error"]["Code"] in there:
            return None
        raise


def _quietly(call: Any, **arguments: Any) -> None:
    """Ignores errors, for things that may not exist."""
    try:
        call(**arguments)
    except ClientError:
        return
