"""What the functions run on: a Python and a processor of Lambda, or this machine."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

from packaging.markers import default_environment

from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import LAMBDA_RUNTIMES, Settings

_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
#: manylinux2014 by its newer name; no wheel that we need is older.
_OLDEST_GLIBC_MINOR = 17


@dataclass(frozen=True)
class Platform:
    #: Lambda's name of the Python, such as python3.13.
    runtime: str
    #: Lambda's name of the processor: x86_64 or arm64.
    architecture: str
    #: For the embedded cloud: functions are processes of this interpreter and operating system.
    native: bool = False

    @property
    def python(self) -> str:
        """Such as 3.13."""
        return self.runtime.removeprefix("python")

    def pip_options(self) -> list[str]:
        """What makes pip take this platform's wheels, on whatever it runs itself."""
        if self.native:
            return []
        options = ["--implementation", "cp", "--python-version", self.python]
        machine = _MACHINES[self.architecture]
        # Amazon Linux 2 has glibc 2.26, Amazon Linux 2023 has 2.34.
        newest = 26 if self.runtime == "python3.11" else 34
        for minor in range(newest, _OLDEST_GLIBC_MINOR - 1, -1):
            options += ["--platform", f"manylinux_2_{minor}_{machine}"]
        return [*options, "--platform", f"manylinux2014_{machine}"]

    def markers(self) -> dict[str, str]:
        """The environment in which the markers of requirements are judged (PEP 508)."""
        here = {name: str(value) for name, value in default_environment().items()}
        if self.native:
            return here
        return here | {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": _MACHINES[self.architecture],
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def interpreter(self) -> str | None:
        """A Python of this machine whose compiled code the functions can load; None without one."""
        if self.native or self.runtime == _runtime_here():
            return sys.executable
        found = shutil.which(self.runtime)
        if found is None:
            return None
        # Run it: a version manager may have a command of that name which only says what is missing.
        tag = "import sys; print(sys.implementation.cache_tag, sys.version_info.releaselevel)"
        done = subprocess.run([found, "-c", tag], capture_output=True, text=True, check=False)
        wanted = f"cpython-{self.python.replace('.', '')} final"
        return found if done.stdout.strip() == wanted else None


def here() -> Platform:
    """This machine, where the embedded cloud runs."""
    return Platform(_runtime_here(), _architecture_here(), native=True)


def chosen(settings: Settings) -> Platform:
    """Lambda as LAMBDA_RUNTIME and LAMBDA_ARCHITECTURE say; where they say nothing, like here.

    Raises SettingsInvalid where Lambda does not offer this machine's Python.
    """
    runtime = settings.lambda_runtime or _runtime_here()
    if runtime not in LAMBDA_RUNTIMES:
        raise SettingsInvalid(
            f"this is Python {platform.python_version()}, which Lambda does not offer: "
            f"set LAMBDA_RUNTIME to one of {', '.join(LAMBDA_RUNTIMES)}"
        )
    return Platform(runtime, settings.lambda_architecture or _architecture_here())


def _runtime_here() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _architecture_here() -> str:
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
