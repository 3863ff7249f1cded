"""The models that vectors were made with, as the database knows them."""

from __future__ import annotations

from dataclasses import dataclass

from server.storage.database import Database
from server.storage.statements import statement


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """One model. Its vectors can only be compared with each other."""

    model_id: int
    name: str
    dimensions: int


class EmbeddingModels:
    """Looks models up by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[EmbeddingModel]:
        """Return every model, the oldest first. Raises the database's errors."""
        async with self._database.plain() as connection:
            records = await connection.fetch(statement("list_embedding_models"))
        return [EmbeddingModel(*record) for record in records]

    async def register(self, name: str, dimensions: int) -> EmbeddingModel:
        """Return the model called ``name``; store it if it is new.

        :raises ValueError: its vectors had another length before.
        """
        async with self._database.plain() as connection:
            await connection.execute(statement("add_embedding_model"), name, dimensions)
        model = next(model for model in await self.all() if model.name == name)
        if model.dimensions != dimensions:
            raise ValueError(f"vectors of {name} have {dimensions} elements now, and had {model.dimensions}")
        return model
