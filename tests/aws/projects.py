"""Functions with dependencies, packed as people pack them: `pip install --target`, `npm install`, `sam build`, zip. What was installed is kept
below `PACKAGES`, by what was asked for."""

import hashlib
import io
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent / "projects"
CACHE = pathlib.Path(os.environ["PACKAGES"])
DOCKER = os.environ["DOCKER"].split()
PYTHON = "3.13"
# SAM packs for the Python that it runs in.
OWN_PYTHON = f"python3.{sys.version_info.minor}"
SAM_BIN = os.environ["SAM_DIR"] + "/bin"
SAM = ["env", "SAM_CLI_TELEMETRY=0", f"PATH={SAM_BIN}:{os.environ['PATH']}", f"{SAM_BIN}/sam"]


def python(name, extra=None):
    """The zip of a project in Python: what its requirements say, its own files, and others."""
    return zipped([(packages(name), ""), (HERE / name, "")], extra)


def packages(name):
    """The folder with what the requirements of a project say."""
    wanted = (HERE / name / "requirements.txt").read_text()
    machine = platform.machine()

    def install(folder):
        run(
            [
                "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder), "--requirement",
                str(HERE / name / "requirements.txt"), "--python-version", PYTHON, "--implementation", "cp",
                "--only-binary", ":all:", "--platform", f"manylinux2014_{machine}", "--platform", f"manylinux_2_28_{machine}",
            ],
            300,
        )

    return kept(f"{name} {PYTHON} {machine} {wanted}", install)


def node(name):
    """The zip of a project in JavaScript, with its node_modules."""
    return zipped([(node_modules(name), "node_modules/"), (HERE / name, "")])


def node_modules(name):
    """The folder with what the package.json of a project says."""
    wanted = (HERE / name / "package.json").read_text()

    def install(folder):
        shutil.copy(HERE / name / "package.json", folder)
        # What is compiled on the way finds the headers of the Node.js that is here.
        npm = ["env", "npm_config_nodedir=/usr", "npm", "install", "--silent", "--no-audit", "--no-fund", "--omit=dev", "--prefix", str(folder)]
        run(npm, 600)

    return kept(f"{name} {wanted}", install) / "node_modules"


def sam(name):
    """The folders that SAM makes of a project, by the names of its functions."""
    project = HERE / name
    files = sorted(path for path in project.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    told = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def build(folder):
        template = ["--template", str(project / "template.yaml"), "--parameter-overrides", f"Python={OWN_PYTHON}"]
        run([*SAM, "build", *template, "--build-dir", str(folder / "build"), "--cache-dir", str(folder / "cache")], 300)

    made = kept(f"{name} {OWN_PYTHON} {told}", build) / "build"
    return {folder.name: folder for folder in made.iterdir()}


def interpreter():
    """Python as files of a package, out of the image of Hearth's own runtime: the other runtime has the same system and no Python."""
    script = (
        f"cd / && tar -chf - --exclude=__pycache__ --exclude='config-*' usr/bin/python{PYTHON} usr/lib/python{PYTHON} "
        f"$(ldd usr/bin/python{PYTHON} usr/lib/python{PYTHON}/lib-dynload/*.so | sed -n 's,.*=> /\\([^ ]*\\) .*,\\1,p' | sort -u "
        "| grep -vE '/(libc|libm|ld-linux[^/]*|libpthread|libdl)[.]so')"
    )
    tar = run([*DOCKER, "run", "--rm", "--network", "none", "--entrypoint", "sh", with_python(), "-c", script], 120)
    files = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for entry in archive:
            if not entry.isfile():
                continue
            name = entry.name
            target = "python/" + name.removeprefix("usr/")
            if ".so" in name and "/lib-dynload/" not in name:
                target = "lib/" + name.rsplit("/", 1)[1]
            files[target] = (archive.extractfile(entry).read(), entry.mode)
    return files


def with_python():
    return of_runtime(f"python{PYTHON}")


def of_runtime(name):
    """The image of one of Hearth's own runtimes."""
    image = run([*DOCKER, "images", "--quiet", "--filter", f"label=hearth.runtime={name}"], 60).split()
    assert image, "the server has built this image"
    return image[0].decode()


def image(tag, dockerfile, files=()):
    """Builds an image of a Dockerfile and of files and folders, by the names that they shall have there."""
    with tempfile.TemporaryDirectory() as context:
        context = pathlib.Path(context)
        (context / "Dockerfile").write_text(dockerfile)
        for name, source in dict(files).items():
            if source.is_dir():
                shutil.copytree(source, context / name)
            else:
                shutil.copy(source, context / name)
        run([*DOCKER, "build", "--quiet", "--network", "none", "--tag", tag, str(context)], 300)
    return tag


def run(command, seconds, data=None):
    done = subprocess.run(command, input=data, capture_output=True, timeout=seconds)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.decode()}")
    return done.stdout


def kept(key, make):
    """A folder made once for each key, whole or not at all."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = CACHE / digest
    if not folder.exists():
        half = CACHE / f".{digest}.{os.getpid()}"
        half.mkdir(parents=True)
        try:
            make(half)
            half.rename(folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return folder


def zipped(folders, extra=None):
    """Folders, each below a prefix, and files by their paths."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def add(path, data, mode):
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)

        for root, prefix in folders:
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    executable = path.name in ("bootstrap", "wrapper")
                    add(prefix + str(path.relative_to(root)), path.read_bytes(), 0o755 if executable else 0o644)
        for path, (data, mode) in (extra or {}).items():
            add(path, data, mode & 0o777)
    return out.getvalue()
