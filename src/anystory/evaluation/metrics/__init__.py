"""Metrics: pictures, masks and features in, numbers out. Models come as arguments (`subjects.image_encoders`).

| metric | file | range, better |
|---|---|---|
| CLIP-T, CLIP-I, DINO, DINOv2, M-DINO | `similarity` | -1…1, higher |
| the same of one subject, cut out | `cutouts` | -1…1, higher |
| number of subjects, doubles | `presence`, `detection` | 0…1 |
| copy-paste score | `copy_paste` | 0…1, lower; 0.5 is no preference |
| background similarity, diversity | `background` | -1…1, 0…2 |
| routing IoU | `routing` | 0…1, higher |
"""
