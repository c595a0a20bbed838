"""Celery as it is set up where nothing may be lost: a task that does nothing, acknowledged when it is done.

As a program it queues tasks: celery_nothing.py COUNT. BENCH_URL names the broker, BENCH_CELERY_QUEUE the queue.
"""
import os
import sys

from celery import Celery

queue = os.environ["BENCH_CELERY_QUEUE"]
app = Celery("celery_nothing", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_default_queue=queue,
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="nothing")
def nothing(body):
    pass


if __name__ == "__main__":
    with app.pool.acquire() as connection, connection.Producer() as producer:
        for _ in range(int(sys.argv[1])):
            nothing.apply_async(("x" * 200,), producer=producer)
