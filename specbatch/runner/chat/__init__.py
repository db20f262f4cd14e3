"""Chats beyond their messages: tools, what the template is given, and what a generated text holds."""
