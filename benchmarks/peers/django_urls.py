"""Django's table of addresses."""

from django.urls import path

from .django_multidb import view

urlpatterns = [path("", view)]
