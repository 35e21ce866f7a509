"""Several recordings at once in an event loop, text as it is found: ``python live.py FILE...``."""

import asyncio
import sys

import echo


async def follow(transcriber: echo.Transcriber, path: str) -> None:
    async for segment in transcriber.segments_async(path):
        print(f"{path} {segment.start:7.2f} {segment.text}", flush=True)


async def main() -> None:
    transcriber = await echo.Transcriber.load_async("base")
    await asyncio.gather(*(follow(transcriber, path) for path in sys.argv[1:]))


if __name__ == "__main__":
    asyncio.run(main())
