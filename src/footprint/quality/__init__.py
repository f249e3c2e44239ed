"""What a choice costs in loss and time: a base is pretrained, then fine-tuned in every setting and validated."""
