"""What a client of the service does; it prints what came back."""

import time

from api import api
from fastapi.testclient import TestClient

client = TestClient(api)
made = client.post("/orders", json=[{"name": "a", "price": 3}, {"name": "b", "price": 5}])
for _ in range(300):
    found = client.get(f"/orders/{made.json()['id']}").json()
    if found["state"] == "SUCCESS":
        break
    time.sleep(0.1)
print(made.status_code, found["result"])
print(client.post("/items", json={"name": "hat", "price": 2}).json())
