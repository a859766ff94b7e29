"""Functions that are images: built here as people build them, with AWS's unmodified runtime clients in them, and run in real containers."""

import io
import json
import os
import pathlib
import tarfile
import unittest
import uuid

import projects
from support import ACCOUNT, ARN, LAMBDA, REGION, ROLE, Case, aws, log, native, package

PROJECT = projects.HERE / "image"
RUST = pathlib.Path(__file__).parents[2] / "runtimes/provided/contract/rust/bin"
INVALID = ("InvalidParameterValueException", 400)
ZIP_IN_IMAGE = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."


def docker(*arguments, data=None):
    return projects.run([*projects.DOCKER, *arguments], 120, data)


class Images(Case):
    """Their tags are this run's own, and gone when it is over."""

    prefix = f"hearth-test-{uuid.uuid4().hex[:12]}"

    @classmethod
    def tag(cls, name):
        return f"{cls.prefix}/{name}:latest"

    @classmethod
    def build(cls, name, dockerfile, files=()):
        tag = projects.image(cls.tag(name), dockerfile, files)
        cls.addClassCleanup(projects.run, [*projects.DOCKER, "rmi", "--force", tag], 60)
        return tag

    @classmethod
    def release(cls, name, number):
        return cls.build(name, f'FROM {cls.tag("python")}\nRUN printf "%s" {number} >/release\n')

    @classmethod
    def setUpClass(cls):
        files = {"packages": projects.packages("image"), "app.py": PROJECT / "app.py", "extension.py": PROJECT / "extension.py"}
        cls.python = cls.build(
            "python",
            f"""FROM {projects.with_python()}
# It is no runtime's any more.
LABEL hearth.runtime=""
USER root
RUN rm /opt && mkdir -p /opt/extensions /data && chmod 777 /data
COPY packages /function
COPY app.py /function/app.py
COPY extension.py /opt/extensions/watch
RUN chmod -R a+rX /function && chmod 755 /opt/extensions/watch
ENV STAGE=image OVER=image LAMBDA_TASK_ROOT=/var/task
VOLUME /data
WORKDIR /function
ENTRYPOINT ["python3.13", "-m", "awslambdaric"]
CMD ["app.handler"]
""",
            files,
        )

    def made(self, uri=None, **settings):
        name = self.name()
        given = {"Role": ROLE, "Timeout": 30, "MemorySize": 256, **settings}
        made = LAMBDA.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": uri or self.python}, **given)
        return name, made

    def printed(self, name):
        return [line["text"] for line in native("GET", f"/functions/{name}/logs")["items"]]

    def described(self, name, variables=(), paths=(), **parameters):
        event = {"do": "describe", "variables": list(variables), "paths": list(paths)}
        body, answer = self.call(name, event, **parameters)
        self.assertNotIn("FunctionError", answer, body)
        return body

    def id(self, tag):
        return docker("image", "inspect", "--format", "{{.Id}}", tag).decode().strip()


class Python(Images):
    def test_it_is_what_the_image_says(self):
        name, _ = self.made(Environment={"Variables": {"OVER": "function"}})
        body = self.described(
            name, ["STAGE", "OVER", "AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION", "TZ", "HEARTH_SOCKET"], ["/", "/function", "/data", "/tmp"]
        )
        self.assertEqual((body["handler"], body["directory"], body["file"]), ("app.handler", "/function", "/function/app.py"))
        self.assertEqual((body["function"], body["version"], body["arn"]), (name, "$LATEST", ARN + name))
        variables = body["variables"]
        self.assertEqual((variables["STAGE"], variables["OVER"]), ("image", "function"))
        self.assertEqual(variables["AWS_LAMBDA_FUNCTION_NAME"], name)
        self.assertEqual(variables["AWS_REGION"], os.environ["AWS_TEST_REGION"])
        self.assertIsNone(variables["HEARTH_SOCKET"])
        # Held as all workers are, whatever the image's user is; what it declares as a volume is no larger than /tmp.
        self.assertEqual(body["unwritable"], ["/", "/function"])
        self.assertNotIn(0, body["ids"])
        self.assertEqual(body["data"], body["tmp"])

    def test_it_is_warm_and_prints(self):
        name, _ = self.made()
        event = {"a": [1, "žluťoučký kůň 🐎", None]}
        said = "extension of /opt/extensions told of INVOKE"
        for n in range(3):
            body, answer = self.call(name, event, LogType="Tail")
            self.assertEqual(body, event)
            self.assertIn("called app.handler", log(answer))
            # A program of the image that stands beside the function, and for whose words no answer waits.
            self.until(lambda: self.printed(name).count(said) == n + 1)
        starts = native("GET", f"/functions/{name}/starts")
        self.assertEqual([start["kind"] for start in starts["items"]], ["cold"], starts)

    def test_what_the_function_says_instead(self):
        name, made = self.made(ImageConfig={"Command": ["app.other"], "WorkingDirectory": "/", "EntryPoint": []})
        said = {"ImageConfig": {"Command": ["app.other"], "WorkingDirectory": "/"}}
        self.assertEqual(made["ImageConfigResponse"], said)
        # The interpreter looks for the client in the directory it is started in.
        body, answer = self.call(name, {})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Runtime.ExitError"))
        printed = self.printed(name)
        self.assertTrue(any("No module named awslambdaric" in line for line in printed), printed)
        config = LAMBDA.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["app.other"]})
        self.assertEqual(config["ImageConfigResponse"], {"ImageConfig": {"Command": ["app.other"]}})
        self.assertEqual(self.call(name, {})[0], "other")
        LAMBDA.update_function_configuration(FunctionName=name, MemorySize=512)
        self.assertEqual(self.call(name, {})[0], "other")
        entry = ["python3.13", "-c", "import sys; sys.exit(7)"]
        LAMBDA.update_function_configuration(FunctionName=name, ImageConfig={"EntryPoint": entry})
        body, answer = self.call(name, {})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Runtime.ExitError"))
        self.assertTrue(body["errorMessage"].endswith("exit status 7"), body)
        config = LAMBDA.update_function_configuration(FunctionName=name, ImageConfig={})
        self.assertNotIn("ImageConfigResponse", config)
        self.assertEqual(self.described(name)["handler"], "app.handler")

    def test_documents(self):
        name, made = self.made(Publish=True, Description="an image")
        digest = self.id(self.python).removeprefix("sha256:")
        self.assertEqual(made["PackageType"], "Image")
        self.assertEqual((made["CodeSize"], made["CodeSha256"], made["Version"]), (0, digest, "1"))
        for field in ("Runtime", "Handler", "RuntimeVersionConfig", "Layers", "ImageConfigResponse"):
            self.assertNotIn(field, made)
        found = LAMBDA.get_function(FunctionName=name)
        repository = self.python.removesuffix(":latest")
        self.assertEqual(
            found["Code"],
            {"RepositoryType": "ECR", "ImageUri": self.python, "ResolvedImageUri": f"{repository}@sha256:{digest}"},
        )
        self.assertEqual(found["Configuration"]["CodeSha256"], digest)
        listed = [one for one in LAMBDA.list_functions()["Functions"] if one["FunctionName"] == name]
        self.assertEqual([one["PackageType"] for one in listed], ["Image"])
        LAMBDA.get_waiter("function_active_v2").wait(FunctionName=name)
        again = LAMBDA.publish_version(FunctionName=name, CodeSha256=digest)
        self.assertEqual(again["Version"], "1")
        message = self.refused(*INVALID, LAMBDA.publish_version, FunctionName=name, CodeSha256="0" * 64)
        self.assertIn("is different from current CodeSHA256", message)
        # The other face shows the same function.
        code = native("GET", f"/functions/{name}")["code"]
        self.assertEqual((code["origin"], code["image"]), ("image", {"uri": self.python, "id": f"sha256:{digest}"}))

    def test_a_version_keeps_its_image(self):
        one, two = self.release("one", 1), self.release("two", 2)
        name, _ = self.made(one)
        LAMBDA.publish_version(FunctionName=name)
        self.assertEqual(self.described(name)["release"], "1")
        made = LAMBDA.update_function_code(FunctionName=name, ImageUri=two, Publish=True)
        self.assertEqual((made["Version"], made["CodeSha256"]), ("2", self.id(two).removeprefix("sha256:")))
        for qualifier, release in (("1", "1"), ("2", "2"), ("$LATEST", "2")):
            self.assertEqual(self.described(name, Qualifier=qualifier)["release"], release)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="2")
        self.assertEqual(self.described(name, Qualifier="live")["release"], "2")
        LAMBDA.update_alias(FunctionName=name, Name="live", FunctionVersion="1")
        self.assertEqual(self.described(name, Qualifier="live")["release"], "1")
        self.assertEqual(LAMBDA.get_function(FunctionName=name, Qualifier="1")["Code"]["ImageUri"], one)

    def test_a_tag_that_moves_changes_nothing_by_itself(self):
        tag = self.release("moving", 1)
        name, made = self.made(tag)
        first = self.id(tag)
        self.release("moving", 2)
        self.assertNotEqual(self.id(tag), first)
        self.assertEqual(self.described(name)["release"], "1")
        made = LAMBDA.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["app.handler"]})
        self.assertEqual(made["CodeSha256"], first.removeprefix("sha256:"))
        self.assertEqual(self.described(name)["release"], "1")
        dry = LAMBDA.update_function_code(FunctionName=name, ImageUri=tag, DryRun=True)
        self.assertEqual(dry["CodeSha256"], self.id(tag).removeprefix("sha256:"))
        self.assertEqual(self.described(name)["release"], "1")
        made = LAMBDA.update_function_code(FunctionName=name, ImageUri=tag)
        # How it is started stays as it was.
        self.assertEqual(made["ImageConfigResponse"], {"ImageConfig": {"Command": ["app.handler"]}})
        self.assertEqual(self.described(name)["release"], "2")

    def test_an_image_that_is_removed_and_comes_back(self):
        # The same layers are the same image, and another test's would keep it.
        tag = self.release("gone", 9)
        name, _ = self.made(tag)
        saved = docker("save", tag)
        docker("rmi", "--force", tag)
        message = self.refused("ServiceException", 500, LAMBDA.invoke, FunctionName=name)
        self.assertIn(f"image {tag} (sha256:", message)
        self.assertIn("is not on this server any more", message)
        answer = native("GET", f"/functions/{name}")
        self.assertEqual(answer["code"]["image"]["uri"], tag)
        # Nothing of what was there can be asked for either.
        message = self.refused(*INVALID, LAMBDA.update_function_code, FunctionName=name, ImageUri=tag)
        self.assertEqual(message, f"Source image {tag} does not exist. Provide a valid source image.")
        docker("load", data=saved)
        self.assertEqual(self.described(name)["release"], "9")

    def test_as_awss_base_images_are(self):
        tag = self.build(
            "aws",
            f"""FROM {self.python}
RUN mkdir -p /var/runtime /var/task && cp -r /function/. /var/runtime && mv /var/runtime/app.py /var/task && rm -r /function
COPY bootstrap /var/runtime/bootstrap
COPY lambda-entrypoint.sh /lambda-entrypoint.sh
RUN chmod 755 /var/runtime/bootstrap /lambda-entrypoint.sh
WORKDIR /var/task
ENTRYPOINT ["/lambda-entrypoint.sh"]
CMD ["app.handler"]
""",
            {"bootstrap": PROJECT / "bootstrap", "lambda-entrypoint.sh": PROJECT / "lambda-entrypoint.sh"},
        )
        name, _ = self.made(tag)
        body = self.described(name, ["AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT"])
        self.assertEqual((body["file"], body["handler"]), ("/var/task/app.py", "app.handler"))
        self.assertEqual(body["variables"], {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "LAMBDA_TASK_ROOT": "/var/task"})

    def test_the_cli(self):
        name = self.name()
        made = aws(
            "create-function", "--function-name", name, "--package-type", "Image", "--code", f"ImageUri={self.python}",
            "--role", ROLE, "--timeout", "30", "--image-config", "Command=app.other",
        )
        self.assertEqual((made["PackageType"], made["State"]), ("Image", "Pending"))
        aws("wait", "function-active-v2", "--function-name", name)
        self.assertEqual(self.call(name, {})[0], "other")
        made = aws("update-function-code", "--function-name", name, "--image-uri", self.python)
        self.assertEqual(made["LastUpdateStatus"], "InProgress")
        aws("wait", "function-updated-v2", "--function-name", name)


class Refused(Images):
    def test_an_image_that_cannot_be_one(self):
        def create(uri, **settings):
            return self.refused(
                *INVALID, LAMBDA.create_function, FunctionName=self.name(), Role=ROLE, PackageType="Image", Code={"ImageUri": uri}, **settings
            )

        missing = self.tag("missing")
        self.assertEqual(create(missing), f"Source image {missing} does not exist. Provide a valid source image.")
        for uri in ("Not An Image", "../containers/json", "", "a?b"):
            self.assertEqual(create(uri), f"Source image {uri} is not valid. Provide a valid source image.")
        for given in ({"Runtime": "python3.13"}, {"Handler": "app.handler"}, {"Layers": [f"{ARN.replace(':function:', ':layer:')}l:1"]}):
            self.assertEqual(create(self.python, **given), ZIP_IN_IMAGE)
        self.assertIn("WorkingDirectory", create(self.python, ImageConfig={"WorkingDirectory": "function"}))
        message = self.refused(
            *INVALID, LAMBDA.create_function, FunctionName=self.name(), Role=ROLE, PackageType="Image", Code={"ZipFile": package("x = 1")}
        )
        self.assertEqual(message, "Please provide ImageUri when creating a function with packageType Image.")

    def test_the_code_of_images_is_not_signed(self):
        config = LAMBDA.create_code_signing_config(
            AllowedPublishers={"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/v"]}
        )["CodeSigningConfig"]
        arn = config["CodeSigningConfigArn"]
        self.addCleanup(LAMBDA.delete_code_signing_config, CodeSigningConfigArn=arn)
        name, _ = self.made()
        words = "Code signing is not supported for functions created with container images."
        for call, more in ((LAMBDA.put_function_code_signing_config, {"CodeSigningConfigArn": arn}), (LAMBDA.get_function_code_signing_config, {})):
            self.assertEqual(self.refused("InvalidParameterValueException", 400, call, FunctionName=name, **more), words)
        given = {"FunctionName": self.name(), "PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": self.python}}
        message = self.refused("InvalidParameterValueException", 400, LAMBDA.create_function, CodeSigningConfigArn=arn, **given)
        self.assertEqual(message, words)

    def test_an_image_in_the_place_of_a_package(self):
        given = {"FunctionName": self.name(), "Role": ROLE, "Code": {"ImageUri": self.python}}
        message = self.refused(*INVALID, LAMBDA.create_function, **given)
        self.assertIn(message, ("Please provide a source for function code.",))
        name = self.function()
        message = self.refused(*INVALID, LAMBDA.update_function_code, FunctionName=name, ImageUri=self.python)
        self.assertEqual(message, "Please don't provide ImageUri when updating a function with packageType Zip.")
        message = self.refused(*INVALID, LAMBDA.update_function_configuration, FunctionName=name, ImageConfig={"Command": ["x"]})
        self.assertEqual(message, "Please don't provide ImageConfig when the intended function PackageType is Zip.")

    def test_a_package_in_the_place_of_an_image(self):
        name, _ = self.made()
        before = LAMBDA.get_function_configuration(FunctionName=name)
        message = self.refused(*INVALID, LAMBDA.update_function_code, FunctionName=name, ZipFile=package("x = 1"))
        self.assertEqual(message, "Please provide ImageUri when updating a function with packageType Image.")
        for given in ({"Runtime": "python3.13"}, {"Handler": "app.handler"}):
            message = self.refused(*INVALID, LAMBDA.update_function_configuration, FunctionName=name, **given)
            self.assertEqual(message, ZIP_IN_IMAGE)
        after = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual(after["RevisionId"], before["RevisionId"])

    def test_an_image_for_another_processor(self):
        tag = self.tag("foreign")
        other = "arm64" if os.uname().machine == "x86_64" else "amd64"
        saved = tarfile.open(fileobj=io.BytesIO(docker("save", self.python)))
        # The same image, that says it is for another.
        out = io.BytesIO()
        manifest = json.load(saved.extractfile("manifest.json"))
        with tarfile.open(fileobj=out, mode="w") as archive:
            for entry in saved:
                data = saved.extractfile(entry).read() if entry.isfile() else None
                if entry.name == manifest[0]["Config"]:
                    config = json.loads(data)
                    config["architecture"] = other
                    data = json.dumps(config).encode()
                    entry.size = len(data)
                if entry.name == "manifest.json":
                    manifest[0]["RepoTags"] = [tag]
                    data = json.dumps(manifest).encode()
                    entry.size = len(data)
                if entry.name != "repositories":
                    archive.addfile(entry, io.BytesIO(data) if data is not None else None)
        docker("load", data=out.getvalue())
        self.addCleanup(docker, "rmi", "--force", tag)
        message = self.refused(
            *INVALID, LAMBDA.create_function, FunctionName=self.name(), Role=ROLE, PackageType="Image", Code={"ImageUri": tag}
        )
        self.assertIn(f"is built for linux/{other}", message)


class Static(Images):
    """Without a shell, without a libc: nothing is in the image but the function."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.build("scratch", 'FROM scratch\nCOPY bootstrap /main\nENTRYPOINT ["/main"]\n', {"bootstrap": RUST / "bootstrap"})

    def test_a_program_alone(self):
        name, _ = self.made(self.scratch, MemorySize=128)
        for n in (1, 2):
            self.assertEqual(self.call(name, {"n": n})[0], {"n": n})
        body, answer = self.call(name, {"do": "describe"}, LogType="Tail")
        self.assertEqual((body["function_name"], body["arn"]), (name, ARN + name))
        self.assertIn("describing\n", log(answer))
        body, answer = self.call(name, {"do": "fail", "thing": 1})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "ContractError"))

    def test_with_the_network(self):
        name, _ = self.made(self.scratch)
        native("PUT", f"/functions/{name}", {"network": "egress"})
        self.assertEqual(self.call(name, {"n": 1})[0], {"n": 1})

    def test_what_cannot_be_started(self):
        for config, text in (
            ({"EntryPoint": ["/nothing"]}, "fork/exec /nothing: no such file or directory"),
            ({"EntryPoint": ["nothing"]}, 'exec: "nothing": executable file not found in $PATH'),
            ({"EntryPoint": ["/etc/hosts"]}, "fork/exec /etc/hosts: exec format error"),
        ):
            name, _ = self.made(self.scratch, ImageConfig=config)
            body, answer = self.call(name, {})
            self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Runtime.InvalidEntrypoint"), body)
            self.assertIn(text, body["errorMessage"])
        nothing = self.build("nothing", "FROM scratch\nCOPY bootstrap /main\n", {"bootstrap": RUST / "bootstrap"})
        body, answer = self.call(self.made(nothing)[0], {})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Runtime.InvalidEntrypoint"))
        self.assertIn("Couldn't find valid bootstrap(s)", body["errorMessage"])


class Native(Images):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.build("native", 'FROM scratch\nCOPY bootstrap /main\nENTRYPOINT ["/main"]\n', {"bootstrap": RUST / "bootstrap"})

    def test_what_one_face_makes_the_other_shows(self):
        name = self.name()
        made = native("POST", "/functions/", {"name": name, "image": self.scratch})
        self.assertEqual((made["language"], made["handler"], made["code"]["origin"]), ("provided", "", "image"))
        self.assertEqual(self.call(name, {"n": 1})[0], {"n": 1})
        self.assertEqual(native("POST", f"/functions/{name}/execute", {"n": 2}), {"n": 2})
        config = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual((config["PackageType"], config["CodeSha256"]), ("Image", self.id(self.scratch).removeprefix("sha256:")))
        image = {"uri": self.scratch, "command": ["a", "b"], "working_dir": "/tmp"}
        made = native("PUT", f"/functions/{name}", {"image": image})
        self.assertEqual((made["handler"], made["code"]["image"]), ("a", {**image, "id": self.id(self.scratch)}))
        self.assertEqual(
            LAMBDA.get_function_configuration(FunctionName=name)["ImageConfigResponse"],
            {"ImageConfig": {"Command": ["a", "b"], "WorkingDirectory": "/tmp"}},
        )
        # As it was shown, it can be sent.
        again = native("PUT", f"/functions/{name}", {"image": made["code"]["image"]})
        self.assertEqual(again["code"], made["code"])
        self.assertEqual(self.call(name, {"n": 3})[0], {"n": 3})


if __name__ == "__main__":
    unittest.main()
