"""The example configuration that operators start from is one."""

from __future__ import annotations

import shutil
from pathlib import Path

from veredus.server.config import load

EXAMPLE = Path(__file__).resolve().parents[3] / "deploy" / "veredus.yaml"


def test_the_example_configuration_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "veredus.yaml"
    shutil.copy(EXAMPLE, file)
    (tmp_path / "secret").write_text("s" * 64)
    config = load(file, {})
    assert config.origins == ("https://chat.example.org",)
    assert "PASSWORD" not in repr(config)
