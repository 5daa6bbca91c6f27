"""The paper's model: Module 1 `encoder`, Module 2 `dynamic_graph`, Module 3 `experts`, Module 4 `scoring` and
`pressure_index`; `network` puts them together and `training` fits them. `config` names every switch.
"""
