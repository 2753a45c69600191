"""The database classes for programs; they override peewee's methods and delegate the work."""
