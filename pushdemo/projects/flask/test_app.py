"""pytest runs this."""

from app import app, orders, push


def test_the_function():
    assert orders()["orders"] > 0


def test_the_feed_and_the_page():
    client = app.test_client()
    answer = client.get("/live/orders?format=json", multithread=True)
    assert answer.status_code == 200
    assert answer.get_json(force=True).keys() == {"orders", "at"}
    with client.get("/") as answer:
        assert b"NAME" in answer.data
    push.close()
