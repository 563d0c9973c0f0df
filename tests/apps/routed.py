"""An app with exchanges, made with either package: nothing but the imports differs."""

import os
from importlib import import_module
from typing import Any

from sample import write

MODULES = {"celery": ("kombu", "kombu.common"), "taskcore": ("taskcore.entity",) * 2}


def make(package: str, url: str, **conf: Any) -> Any:
    """The app of a client or a worker."""
    entity, common = map(import_module, MODULES[package])
    if package == "taskcore":
        conf = {"task_protocol": 2, **conf}
    app = import_module(package).Celery("routed", broker=url, backend=url, set_as_current=False)
    media = entity.Exchange("media", type="topic")
    app.conf.update(
        task_default_queue="default",
        task_queues=(
            entity.Queue("default", entity.Exchange("default"), routing_key="default"),
            entity.Queue("images", media, routing_key="media.image.#"),
            entity.Queue("videos", media, routing_key="media.video.#"),
            entity.Queue("archive", media, routing_key="*.*.old"),
            common.Broadcast("everywhere"),
        ),
        task_routes={
            "routed.image": {"queue": "images", "routing_key": "media.image.new"},
            "routed.video": {"queue": "videos", "routing_key": "media.video.new"},
            "routed.reload": {"queue": "everywhere"},
        },
        **conf,
    )

    def add(name: str) -> None:
        @app.task(name=f"routed.{name}", bind=True, shared=False)  # type: ignore[untyped-decorator]
        def record(self: Any, value: str) -> str:
            info = self.request.delivery_info
            write(f"{package} {name} {value} {info['exchange']} {info['routing_key']}")
            return value

    for name in ("plain", "image", "video", "reload"):
        add(name)
    return app


if "ROUTED_PACKAGE" in os.environ:
    app = make(os.environ["ROUTED_PACKAGE"], os.environ["ROUTED_URL"])
