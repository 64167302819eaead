import re

import pytest

from normscope import report


def test_a_folder_without_a_run_is_refused_and_left_alone(tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        report.write(tmp_path)
    assert not list(tmp_path.iterdir())
