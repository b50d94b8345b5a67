"""One environment for every tox target.

tox gives each target its own environment, and recreates a shared one when the target's name changes. The
dependencies here are several gigabytes and the same for all targets, so this runner only drops the name
check: tox still installs, and installs again when the dependencies in pyproject.toml change.
"""

from __future__ import annotations

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class SharedRunner(VirtualEnvRunner):
    """A virtualenv runner that several targets may point to the same ``env_dir``."""

    @staticmethod
    def id() -> str:
        return "shared"

    def _setup_env(self) -> None:
        # `compare` stores the new value on exit, so tox's own check of the name, which follows, passes
        with self.cache.compare({"name": self.conf.name, "type": type(self).__name__}, ToxEnv.__name__):
            pass
        super()._setup_env()


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    register.add_run_env(SharedRunner)
