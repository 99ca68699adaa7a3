"""What people would write instead, each as the documentation of its library shows it.

None remembers anything: a row whose answer is lost may be created twice, and after a crash nobody knows how far it got.

rows             what each of them sends for a row
threads          pandas, 50 threads, requests, tenacity
celery_rows      Celery as in its tutorial: a message a row
celery_threads   Celery at its best: the same on threads, without what a message a row can do without
aiohttp_rows     asyncio, 200 requests under way
dramatiq_rows    Dramatiq: a message a row
"""
