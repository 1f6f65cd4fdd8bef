"""The contract suite on PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.message_store import MessageStoreContract
from tests.integration.store_gates import PostgresWorld, opened


@pytest.mark.requirement("MSG-32")
class TestPostgresMessageStore(MessageStoreContract):
    @pytest.fixture
    async def world(self, database: str) -> AsyncIterator[PostgresWorld]:
        async with opened(database) as world:
            yield world
