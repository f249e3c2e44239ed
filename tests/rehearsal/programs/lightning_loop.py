"""A LightningModule under Lightning's own Trainer."""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256))

    def training_step(self, batch, number):
        return self.layers(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())


quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = lightning.Trainer(accelerator="gpu", devices=1, precision="bf16-mixed", max_steps=3, **quiet)
trainer.fit(Model(), DataLoader(TensorDataset(torch.randn(64, 256)), batch_size=16))
