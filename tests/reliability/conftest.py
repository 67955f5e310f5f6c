"""One process to fork from, for all of the campaign."""

import pytest

from forks import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()
