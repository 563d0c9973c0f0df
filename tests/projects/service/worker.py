import os

from celery import Celery
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float


app = Celery(
    "service",
    broker=os.environ["SERVICE_BROKER"],
    backend=os.environ["SERVICE_RESULTS"],
)
app.conf.update(
    task_serializer="json", result_serializer="json", accept_content=["json"], result_extended=True
)


@app.task(name="service.price", bind=True)
def price(self, items: list, discount: float = 0.0):
    self.update_state(state="PROGRESS", meta={"done": len(items)})
    return sum(item["price"] for item in items) * (1 - discount)


@app.task(pydantic=True)
def store(item: Item) -> Item:
    return Item(name=item.name.upper(), price=item.price)
