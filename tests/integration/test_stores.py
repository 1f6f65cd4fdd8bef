"""The fixtures themselves: what other tests rely on."""

import asyncpg
import redis.asyncio

from veredus.server.process.embedded import Embedded


async def test_a_database_is_durable_and_of_this_test_alone(database: str) -> None:
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW full_page_writes") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.execute("CREATE TABLE only_here ()")
    await connection.close()


async def test_what_another_test_made_in_its_database_is_not_here(database: str) -> None:
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT to_regclass('only_here')") is None
    await connection.close()


async def test_redis_is_empty_and_evicts_nothing(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        assert (await client.config_get("save"))["save"] == ""


async def test_own_servers_stop_and_start_and_keep_what_was_committed(own_stores: Embedded) -> None:
    connection = await asyncpg.connect(own_stores.dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    await connection.close()
    own_stores.postgres.kill()
    own_stores.redis.stop()
    assert own_stores.postgres.pid == 0
    assert own_stores.redis.pid == 0
    own_stores.postgres.start()
    own_stores.redis.start()
    connection = await asyncpg.connect(own_stores.dsn)
    assert await connection.fetchval("SELECT one FROM kept") == 1
    await connection.close()
