"""The `context` a handler is given: AWS's attributes and methods, plus `set_content_type` for streamed answers, and the
call's place in its trace as the W3C writes it."""

import json
import time


class Identity:
    """Who called, when a Cognito identity was sent along."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, given):
        self.cognito_identity_id = given.get("cognitoIdentityId")
        self.cognito_identity_pool_id = given.get("cognitoIdentityPoolId")

    def __repr__(self):
        return (
            f"CognitoIdentity([cognito_identity_id={self.cognito_identity_id},"
            f"cognito_identity_pool_id={self.cognito_identity_pool_id}])"
        )


class Client:
    """The calling application, as mobile SDKs describe it."""

    __slots__ = (
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    )

    def __init__(self, given):
        for name in self.__slots__:
            setattr(self, name, given.get(name))


class ClientContext:
    __slots__ = ("custom", "env", "client")

    def __init__(self, given):
        self.custom = given.get("custom")
        self.env = given.get("env")
        client = given.get("client")
        self.client = Client(client) if isinstance(client, dict) else None


class Settings:
    """What INIT said about the function: the same for every invocation of this worker."""

    __slots__ = ("name", "version", "memory", "log_group", "log_stream", "arn", "region", "initialization")

    def __init__(self, init):
        self.name = init["function_name"]
        self.version = init["function_version"]
        self.memory = str(init["memory_mb"])
        self.log_group = init["log_group"]
        self.log_stream = init["log_stream"]
        self.arn = init["function_arn"]
        self.region = self.arn.split(":")[3]
        self.initialization = init.get("initialization_type", "on-demand")


class LambdaContext:
    """Built for every invocation, so it only stores what it is given; what few handlers read is made when they read it."""

    tenant_id = None  # no function here keeps tenants apart

    def __init__(self, settings, request_id, deadline_ms, extra):
        self.aws_request_id = request_id
        self.function_name = settings.name
        self.function_version = settings.version
        self.memory_limit_in_mb = settings.memory
        self.log_group_name = settings.log_group
        self.log_stream_name = settings.log_stream
        self.invoked_function_arn = settings.arn
        self.client_context = None
        self.traceparent = None
        self.tracestate = None
        self._deadline_ms = deadline_ms
        self._identity = None
        self._content_type = None
        if extra:
            self.invoked_function_arn = extra.get("invoked_function_arn") or settings.arn
            self._identity = extra.get("identity")
            self.traceparent = extra.get("traceparent")
            self.tracestate = extra.get("tracestate")
            if extra.get("client_context") is not None:
                self.client_context = ClientContext(extra["client_context"])

    @property
    def identity(self):
        if not isinstance(self._identity, Identity):
            self._identity = Identity(self._identity or {})
        return self._identity

    def get_remaining_time_in_millis(self):
        return max(int(self._deadline_ms - time.time() * 1000), 0)

    def set_content_type(self, content_type):
        """The content type of a streamed answer; to be called before the first piece is yielded."""
        self._content_type = str(content_type)

    def log(self, message):
        print(message, end="")

    def __repr__(self):
        fields = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
            "tenant_id",
        )
        return f"LambdaContext([{','.join(f'{name}={getattr(self, name)}' for name in fields)}])"


def parse_extra(text):
    """The extra context of an INVOKE. Hearth wrote it, so what is not an object is a breach of the protocol."""
    extra = json.loads(text)
    if not isinstance(extra, dict):
        raise ValueError("the extra context is not an object")
    return extra
