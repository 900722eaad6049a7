import typer

app = typer.Typer()


def compare(): ...
