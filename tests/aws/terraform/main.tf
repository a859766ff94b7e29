# What people keep in Terraform of a function, with nothing said of Hearth but where it is.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "endpoint" {}
variable "name" {}
variable "package" {}
variable "greeting" {
  default = "hello"
}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    lambda = var.endpoint
  }
}

resource "aws_lambda_function" "shop" {
  function_name                  = var.name
  description                    = "sells tea"
  filename                       = var.package
  source_code_hash               = filebase64sha256(var.package)
  role                           = "arn:aws:iam::000000000000:role/shop"
  handler                        = "app.handler"
  runtime                        = "python3.13"
  memory_size                    = 192
  timeout                        = 12
  publish                        = true
  reserved_concurrent_executions = 3
  layers                         = [aws_lambda_layer_version.words.arn]

  environment {
    variables = {
      GREETING = var.greeting
    }
  }

  dead_letter_config {
    target_arn = "arn:aws:sqs:us-east-1:000000000000:shop"
  }

  tracing_config {
    mode = "Active"
  }

  tags = {
    team = "tea"
  }
}

# Another with everything left out that can be.
resource "aws_lambda_function" "plain" {
  function_name = "${var.name}-plain"
  filename      = var.package
  role          = "arn:aws:iam::000000000000:role/shop"
  handler       = "app.handler"
  runtime       = "python3.12"
}

resource "aws_lambda_function" "held" {
  function_name           = "${var.name}-held"
  filename                = var.package
  role                    = "arn:aws:iam::000000000000:role/shop"
  handler                 = "app.handler"
  runtime                 = "python3.12"
  code_signing_config_arn = aws_lambda_code_signing_config.trusted.arn
}

resource "aws_lambda_code_signing_config" "trusted" {
  description = "who signs what is sold"

  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/shop/v1"]
  }

  policies {
    untrusted_artifact_on_deployment = "Warn"
  }

  tags = {
    team = "tea"
  }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "what customers call"
  function_name    = aws_lambda_function.shop.function_name
  function_version = aws_lambda_function.shop.version
}

resource "aws_lambda_alias" "latest" {
  name             = "latest"
  function_name    = aws_lambda_function.shop.arn
  function_version = "$LATEST"
}

resource "aws_lambda_permission" "events" {
  statement_id  = "events"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.shop.function_name
  principal     = "events.amazonaws.com"
  source_arn    = "arn:aws:events:us-east-1:000000000000:rule/nightly"
}

resource "aws_lambda_permission" "live" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.shop.function_name
  qualifier     = aws_lambda_alias.live.name
  principal     = "s3.amazonaws.com"
}

resource "aws_lambda_layer_version" "words" {
  layer_name          = "${var.name}-words"
  filename            = var.package
  source_code_hash    = filebase64sha256(var.package)
  compatible_runtimes = ["python3.12", "python3.13"]
}

resource "aws_lambda_function_event_invoke_config" "shop" {
  function_name                = aws_lambda_function.shop.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 600

  destination_config {
    on_failure {
      destination = aws_lambda_function.plain.arn
    }
  }
}

resource "aws_lambda_function_url" "shop" {
  function_name      = aws_lambda_function.shop.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"

  cors {
    allow_origins = ["*"]
    allow_methods = ["GET"]
  }
}

resource "aws_lambda_provisioned_concurrency_config" "live" {
  function_name                     = aws_lambda_function.shop.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = 1
}

resource "aws_lambda_invocation" "first" {
  function_name = aws_lambda_function.shop.function_name
  qualifier     = aws_lambda_alias.live.name
  input         = jsonencode({ who = "Ada" })
}

data "aws_lambda_function" "read" {
  function_name = aws_lambda_function.shop.function_name
  qualifier     = aws_lambda_alias.live.name
}

output "answer" {
  value = jsondecode(aws_lambda_invocation.first.result)
}

output "version" {
  value = data.aws_lambda_function.read.version
}
