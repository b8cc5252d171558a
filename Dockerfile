# MegaPortraits on the CPU, by the commands of README.md. Build: docker build -t megaportraits .
# Use: docker run --rm -v "$PWD:/data" -w /data megaportraits animate person.jpg driver.mp4 -o out.mp4
FROM python:3.12-slim

WORKDIR /app
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install -e .

# Outside any home, so that `docker run --user` finds the weights, too.
ENV MEGAPORTRAITS_CACHE=/opt/megaportraits
RUN megaportraits weights pull

ENTRYPOINT ["megaportraits"]
CMD ["--help"]
