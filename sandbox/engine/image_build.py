"""Builds the sandbox image: Python 3.11 and the guest programs, nothing else.

Guarantees: everything that runs inside is part of the image, so its id names the interpreter and the guest programs. Built from
distribution packages, equal package versions give the same id on every machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from events.facts.errors import SandboxError
from sandbox.engine import packages
from sandbox.engine.engine import Notify

if TYPE_CHECKING:
    import docker

PACKAGE = Path(__file__).parents[1]
DOCKERFILE = PACKAGE / "image" / "Dockerfile"
IMPORTS = PACKAGE / "image" / "imports.py"
"""Run in every build; fails if a module of the standard library is missing."""
GUEST_FILES = (
    "events/pure/literal.py",
    *(f"sandbox/guest/{name}.py" for name in ("fork_server", "child", "exit_output", "leftovers", "oom_kills", "usage")),
    *(
        f"sandbox/interpreter/guest/{name}.py"
        for name in ("kernel", "context_process", "cell_execution", "cell_loop", "file_ops")
    ),
)
"""Files of this project that are copied into the image, to `/gasp`; nothing else of their packages is."""
DEBS = (
    "libbz2-1.0 libc6 libcom-err2 libcrypt1 libdb5.3 libexpat1 libffi8 libgcc-s1 libgdbm6 libgssapi-krb5-2 libk5crypto3"
    " libkeyutils1 libkrb5-3 libkrb5support0 liblzma5 libncursesw6 libnsl2 libpython3.11-minimal libpython3.11-stdlib"
    " libreadline8 libsqlite3-0 libssl3 libtinfo6 libtirpc3 libuuid1 ncurses-base python3-distutils python3-gdbm"
    " python3-lib2to3 python3.11 python3.11-minimal python3.11-venv tzdata zlib1g"
).split()
"""The interpreter with its standard library, time zones and terminals, and the shared libraries that it loads."""
REPOSITORY = "gasp-sandbox"
_HUB = "https://registry-1.docker.io/v2/"
_PRUNED = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/bug", "usr/share/python3")


def image_tag() -> str:
    """Name of the image of this version of the code; any change of its contents changes the name."""
    content = hashlib.sha256(" ".join(DEBS).encode())
    for path in (DOCKERFILE, IMPORTS, *(PACKAGE.parent / name for name in GUEST_FILES)):
        content.update(path.read_bytes())
    return f"{REPOSITORY}:{content.hexdigest()[:12]}"


def ensure_image(client: docker.DockerClient, notify: Notify) -> str:
    """The image's id, after building the image if the engine does not have it; SandboxError if it cannot be built."""
    import docker

    name = image_tag()
    try:
        if not has_image(client, name) and not (_hub_answers() and _build_from_hub(client, name, notify)):
            _build_from_packages(client, name, notify)
        return str(client.images.get(name).id)
    except docker.errors.DockerException as error:
        raise SandboxError(f"The sandbox image {name} could not be built: {error}; is the disk full?") from error


def has_image(client: docker.DockerClient, image: str) -> bool:
    """Whether the engine has the image of this id or name."""
    import docker

    try:
        return bool(client.images.get(image))
    except docker.errors.ImageNotFound:
        return False


def installed_tags(client: docker.DockerClient) -> list[str]:
    """Names of the sandbox images that the engine has."""
    return sorted(name for image in client.images.list(REPOSITORY) for name in image.tags)


def remove_images(client: docker.DockerClient) -> None:
    """Remove every version of the image from the engine."""
    for image in client.images.list(REPOSITORY):
        client.images.remove(image.id, force=True)


def _hub_answers() -> bool:
    try:
        urllib.request.urlopen(_HUB, timeout=3)
    except urllib.error.HTTPError as error:
        # So a registry answers a request that has no token yet.
        return error.code == 401
    except OSError:
        return False
    return True


def _build_from_hub(client: docker.DockerClient, name: str, notify: Notify) -> bool:
    import docker

    notify(f"Building the sandbox image {name} from {DOCKERFILE.name}.")
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, data in {
            "Dockerfile": DOCKERFILE.read_bytes(),
            IMPORTS.name: IMPORTS.read_bytes(),
            **_guest_files(""),
        }.items():
            tar.addfile(*_tar_file(path, data))
    context.seek(0)
    try:
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True)
    except (docker.errors.BuildError, docker.errors.APIError) as error:
        notify(f"The engine cannot build it from a hub: {error}.")
        return False
    return True


def _build_from_packages(client: docker.DockerClient, name: str, notify: Notify) -> None:
    if not packages.available():
        raise SandboxError(
            f"The sandbox image {name} needs a hub or a Debian machine; let the engine reach docker.io, "
            f"or load an image of that name with `docker load`."
        )
    notify(f"Building the sandbox image {name} from distribution packages (Python 3.11).")
    with tempfile.TemporaryDirectory(prefix="gasp-image-") as folder:
        root = Path(folder, "root")
        packages.unpack(packages.fetch_exactly(DEBS, Path(folder, "debs")), root)
        files = {path.relative_to(root).as_posix(): path for path in _kept_files(root)}
        # A unique name: another process may be building the same image.
        raw = f"{name}-raw-{secrets.token_hex(4)}"
        _load_image(client, raw, files, {})
        try:
            compiled = _bytecode(client, raw)
        finally:
            client.images.remove(raw, force=True)
        _load_image(client, name, files, compiled)


def _kept_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if not path.relative_to(root).as_posix().startswith(_PRUNED):
            yield path


def _bytecode(client: docker.DockerClient, image: str) -> dict[str, bytes]:
    """Bytecode of the standard library by path, without timestamps, so that builds are reproducible."""
    compile_all = ["-m", "compileall", "-q", "-x", "lib2to3/tests", "--invalidation-mode", "unchecked-hash"]
    container = client.containers.create(
        image,
        ["/usr/bin/python3.11", *compile_all, "/usr/lib/python3.11"],
        environment={"PYTHONHASHSEED": "0"},
        network_mode="none",
    )
    try:
        container.start()
        code = container.wait(timeout=300)["StatusCode"]
        if code != 0:
            raise SandboxError(f"The sandbox image's Python does not run (exit code {code}): {container.logs()[-300:]!r}.")
        stream, _ = container.get_archive("/usr/lib/python3.11")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            compiled = {f"usr/lib/{entry.name}": tar.extractfile(entry) for entry in tar if entry.name.endswith(".pyc")}
            return {path: data.read() for path, data in compiled.items() if data is not None}
    finally:
        container.remove(force=True)


def _load_image(client: docker.DockerClient, name: str, files: dict[str, Path], compiled: dict[str, bytes]) -> None:
    """Load an image of one layer, in the format of `docker save`, without timestamps."""
    with tempfile.TemporaryFile() as layer, tempfile.TemporaryFile() as archive:
        _write_layer(layer, files, compiled)
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        config = json.dumps(
            {
                "architecture": client.version()["Arch"],
                "os": "linux",
                "created": "1970-01-01T00:00:00Z",
                "config": {"Env": ["PATH=/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            },
            sort_keys=True,
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(*_tar_file(config_name, config))
            tar.addfile(*_tar_file("manifest.json", manifest))
            info = tarfile.TarInfo("layer.tar")
            info.size = layer.seek(0, io.SEEK_END)
            layer.seek(0)
            tar.addfile(info, layer)
        archive.seek(0)
        client.images.load(archive)


def _write_layer(layer: io.IOBase, files: dict[str, Path], compiled: dict[str, bytes]) -> None:
    data = {**compiled, **_guest_files("gasp/")}
    folders = {"dev": 0o755, "proc": 0o555, "sys": 0o555, "tmp": 0o1777, "etc": 0o755, "home": 0o755, "run": 0o755}
    for path in (*data, *files):
        folders.update({str(parent): 0o755 for parent in Path(path).parents if str(parent) not in (".", *folders)})
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder, mode in sorted(folders.items()):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        for path in sorted({*data, *files} - set(folders)):
            if path in data:
                tar.addfile(*_tar_file(path, data[path]))
            elif files[path].is_symlink() or files[path].is_file():
                _tar_add(tar, path, files[path])
        _tar_link(tar, "home/user", "/tmp")  # noqa: S108  # the interpreter's home is the scratch folder
        # The fork server writes this file: it draws the programs' uid when a container starts.
        _tar_link(tar, "etc/passwd", "/run/passwd")


def _tar_add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    if path.is_symlink():
        _tar_link(tar, name, str(path.readlink()))
    else:
        # Drops setuid bits: nothing in the image may raise its rights.
        info, content = _tar_file(name, path.read_bytes())
        info.mode = path.stat().st_mode & 0o755
        tar.addfile(info, content)


def _tar_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


def _guest_files(prefix: str) -> dict[str, bytes]:
    files = {f"{prefix}{name}": (PACKAGE.parent / name).read_bytes() for name in GUEST_FILES}
    top_packages = sorted({name.partition("/")[0] for name in GUEST_FILES})
    return {**{f"{prefix}{package}/__init__.py": b"" for package in top_packages}, **files}


def _tar_file(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    return info, io.BytesIO(data)
