"""`import taskcore.as_celery`, in front of anything that imports Celery: from then on `import celery`
means taskcore, for the program and for the packages that it uses. See `contrib.celery_alias`."""

from taskcore.contrib.celery_alias import install

install()
