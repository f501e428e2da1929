"""Mask R-CNN's detections: what is between the networks, and has no weights.

    picture ── picture.py ──> float32[H, W, 3] ── the network ──> P2..P5, and a score and four shifts for each anchor
    boxes.py      anchors, shifts, what is normalised
    proposals.py  the most promising anchors, moved, without those that overlap
    regions.py    what a head sees of a box
    choosing.py   the best class of each proposal, without those that overlap
    result.py     boxes and masks in the picture's own pixels: ``Detections``
    detecting.py  all of it, for one picture
    config.py     the numbers that no weight file holds: ``DetectorConfig``

Source: matterport/Mask_RCNN:mrcnn/model.py and utils.py. Wherever that rounds, this does.
"""
