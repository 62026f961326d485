import asyncio

from gateway.lifetime import Ending, Lifetime


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_expires_and_renewal_starts_anew():
    async def run():
        clock = Clock()
        lifetime = Lifetime(60.0, clock)
        clock.now += 50
        assert lifetime.remaining() == 10
        lifetime.renew()
        assert lifetime.remaining() == 60
        clock.now += 61
        assert lifetime.remaining() == 0
        return await lifetime.ended()

    assert asyncio.run(run()) == Ending("expired")


def test_the_first_reason_holds():
    async def run():
        lifetime = Lifetime(60.0, Clock())
        waiting = asyncio.create_task(lifetime.ended())
        await asyncio.sleep(0)
        lifetime.end(Ending("a process died", 1, "data", -9))
        lifetime.end(Ending("SIGTERM"))
        return await waiting

    ending = asyncio.run(run())
    assert ending.exit_code == 1
    assert ending.fields() == {"reason": "a process died", "died": "data", "status": -9}
