"""The runtime: doors and clock. `worker.celery_app.app` is the Celery app that every door binds the tasks to."""
