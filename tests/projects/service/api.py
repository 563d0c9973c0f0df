from celery.result import AsyncResult
from fastapi import FastAPI
from worker import Item, price, store
from worker import app as celery_app

api = FastAPI()


@api.post("/orders", status_code=202)
def order(items: list[Item]):
    return {"id": price.delay([item.model_dump() for item in items], discount=0.5).id}


@api.get("/orders/{task_id}")
def state(task_id: str):
    result = AsyncResult(task_id, app=celery_app)
    return {"state": result.state, "result": result.result if result.ready() else None}


@api.post("/items")
def item(item: Item):
    return store.delay(item).get(timeout=30)
