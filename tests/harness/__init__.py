"""What the tests stand on: real Redis servers, real processes, a raw SSE client, and whole stacks of them."""
